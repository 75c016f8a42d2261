"""A given base without its weights: enough to check what it accepts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stage.core.errors import ConfigError
from stage.core.model_params import BaseModelSource
from stage.model.base import Base, check_fit, check_parts, read_schedule
from stage.model.base_parts import BUILT, load_part
from stage.model.files import AGAIN, read_index


def check_outline(folder: Path, params: BaseModelSource, texts: Sequence[str]) -> None:
    """Raise ConfigError if a base's parts do not fit each other, the settings or the texts, which may hold learned tokens."""
    base = outline_base(folder)
    check_parts(base, folder)
    check_fit(base, params)
    base.tokenizer.add_tokens(sorted({token for text in texts for token in text.split() if token.startswith("<defect-")}))
    base.token_ids(texts)


def outline_base(folder: Path) -> Base:
    """A base whose networks have shapes and no weights. Raises ConfigError as `load_base` does, as far as settings tell."""
    classes = read_index(folder)
    schedule, prediction = read_schedule(folder, classes)
    names = [(part, name) for part, name in classes.items() if part not in ("scheduler", "tokenizer")]
    with torch.device("meta"):
        unet, codec, text_encoder = [_built(BUILT[name], folder / part) for part, name in names]
    return Base(unet, text_encoder, load_part(folder, "tokenizer", classes["tokenizer"]), codec, schedule, prediction)


def _built(kind: Any, place: Path) -> Any:
    try:
        if config := getattr(kind, "config_class", None):  # transformers'
            return kind(config.from_pretrained(place, local_files_only=True))
        return kind.from_config(kind.load_config(place, local_files_only=True))
    except Exception as error:  # on damaged settings, the libraries pass on any exception of their parsers
        raise ConfigError(
            f"Expected the settings of a {kind.__name__} in {place}, found: {str(error).partition(chr(10))[0]} {AGAIN}"
        ) from error
