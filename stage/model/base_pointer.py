"""Which base the later DVC stages use: its source, its digest, and where it lies. Imports no networks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from stage.core.errors import ConfigError
from stage.model.files import base_digest

POINTER = "base.json"
TRAINED_HERE = "base"
TRAINED = frozenset({"stage"})  # methods that need a base, and a training on it


def needs_base(methods: Sequence[str]) -> bool:
    """Whether any of these methods needs a base and a training on it."""
    return not TRAINED.isdisjoint(methods)


def write_pointer(base: Path, output: Path, source: str) -> None:
    """Record the base's `base.source` and digest in `output`, so that the categories are retrained when its weights change.

    Its folder is recorded only if it lies in `output`: elsewhere, its path differs between machines.
    """
    output.mkdir(parents=True, exist_ok=True)
    place = {"folder": base.relative_to(output).as_posix()} if base.is_relative_to(output) else {}
    (output / POINTER).write_text(json.dumps({"source": source, **place, "digest": base_digest(base)}) + "\n", encoding="utf-8")


def follow_pointer(output: Path) -> Path:
    """The folder of the base that `write_pointer` recorded. Raises ConfigError if it is gone or has changed."""
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
    except ConfigError:  # incomplete
        return None


def _places(source: str) -> Iterator[Path]:
    """Folders where the base of `source` may lie, the hub's cache first."""
    from stage.model.base_source import cached, locate  # imported late: a base trained here needs neither hub nor networks

    if not Path(source).is_dir() and (folder := cached(source)):
        yield folder
    yield locate(source)
