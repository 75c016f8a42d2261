"""Which base the later DVC stages use: its source, its digest, and where it lies. Imports no networks."""

import json
from collections.abc import Iterator
from pathlib import Path

from stage.core.errors import ConfigError
from stage.model.files import base_digest

POINTER = "base.json"
TRAINED_HERE = "base"


def write_pointer(base: Path, output: Path, source: str) -> None:
    """Note in `output` the `base.source` that the base was made or found by, and what it is: other weights make other categories.

    Its folder is noted only where it lies in `output`: elsewhere it lies in another place on every machine.
    """
    output.mkdir(parents=True, exist_ok=True)
    place = {"folder": base.relative_to(output).as_posix()} if base.is_relative_to(output) else {}
    (output / POINTER).write_text(json.dumps({"source": source, **place, "digest": base_digest(base)}) + "\n", encoding="utf-8")


def follow_pointer(output: Path) -> Path:
    """The base's folder by what `write_pointer` noted; a ConfigError where it is gone or another one by now."""
    path = output / POINTER
    try:
        noted = {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
        source, digest = noted["source"], noted["digest"]
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"Expected a base's source and digest in {path}, found {error!r}. Run `dvc repro -f pretrain`.") from None
    for folder in [output / noted["folder"]] if "folder" in noted else _places(source):
        if _digest(folder) == digest:
            return folder
    raise ConfigError(
        f"Expected the base {digest[:12]} of {source!r} that {path} names, found it changed or gone. Run `dvc repro -f pretrain`."
    )


def _digest(folder: Path) -> str | None:
    try:
        return base_digest(folder)
    except ConfigError:  # not complete
        return None


def _places(source: str) -> Iterator[Path]:
    """Where a given base may lie: first as the hub's cache has it."""
    from stage.model.base_source import cached, locate  # here, because a base that was trained here needs neither hub nor networks

    if not Path(source).is_dir() and (folder := cached(source)):
        yield folder
    yield locate(source)
