"""Checks before any training whether a base takes the data's prompts and the image size.

Networks are imported for a base that is given, and for names that may be too long; otherwise counting letters is enough.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from stage.core.model_params import BaseModelSource
from stage.model.prompts import TEXT_LENGTH, placeholders, prompt, prompts, token_ids

WORD, PLACEHOLDER = re.compile(r"\b[a-z]+\b"), re.compile(r"<defect-\d+-\d+>")


def check_base(params: BaseModelSource, token_count: int, types: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError where training would, as far as can be told now; `types` are the defect types of every category.

    A base on a hub is checked only once it lies in the hub's cache.
    """
    learned = [text for category, names in types.items() for text in learned_prompts(params, category, len(names), token_count)]
    if params.source == "scratch":
        _check_scratch(learned, spoken_prompts(params, types), max(map(len, types.values()), default=0), token_count)
    elif folder := _folder(params.source):
        from stage.model.outline import check_outline  # here, because it imports networks

        check_outline(folder, params, learned)


def learned_prompts(params: BaseModelSource, category: str, type_count: int, token_count: int) -> list[str]:
    """The prompts of a category's two branches, with learned tokens in place of its defect types."""
    return [text for number in range(type_count) for text in prompts(params.prompts, category, placeholders(number, token_count))]


def spoken_prompts(params: BaseModelSource, types: Mapping[str, Sequence[str]]) -> list[str]:
    """The prompts that a base from scratch is trained on, sorted."""
    normal = [prompt(params.prompts.normal, category, "good") for category in types]
    defective = [text for category, names in types.items() for name in names for text in prompts(params.prompts, category, name)]
    return sorted({*normal, *defective})


def most_tokens(text: str) -> int:
    """An upper bound of a prompt's tokens in a base from scratch: one for a word of plain letters, else one for each byte; and two ends."""
    plain = WORD.sub("a", PLACEHOLDER.sub(" a ", text).lower())
    return len("".join(plain.split()).encode()) + 2


def _check_scratch(learned: Sequence[str], spoken: Sequence[str], type_count: int, token_count: int) -> None:
    if max(map(most_tokens, [*learned, *spoken]), default=0) <= TEXT_LENGTH:
        return
    from stage.model.tokens import tokenizer_of  # here, because it imports networks

    tokenizer = tokenizer_of(spoken, TEXT_LENGTH)
    tokenizer.add_tokens([token for number in range(type_count) for token in placeholders(number, token_count).split()])
    token_ids(tokenizer, [*spoken, *learned], TEXT_LENGTH)


def _folder(source: str) -> Path | None:
    """Where a given base lies; None if only the hub can tell. Raises ConfigError if it is neither a folder nor a hub id."""
    from stage.model.base_source import cached, locate  # here, because it imports networks

    try:
        validate_repo_id(source)
    except HFValidationError:
        return locate(source)
    return locate(source) if Path(source).is_dir() else cached(source)
