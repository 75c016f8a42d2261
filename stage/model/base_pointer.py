"""Which base the later DVC stages use: its source, its digest, and where it lies. Imports no networks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stage.core.durable import write_whole
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


def note_start(output: Path, start: str) -> None:
    """Add to the record in `output` what its base's training began with: the folder of another base as `pretrain.start` names it, and its digest.

    Called when the base is published, not when it is trained: the folder's name decides no weights, so renaming it trains nothing again.
    """
    noted = json.loads((output / POINTER).read_text(encoding="utf-8"))
    write_whole(json.dumps(noted | {"start": start, "start_digest": base_digest(Path(start))}) + "\n", output / POINTER)


def start_of(base: Path) -> dict[str, str]:
    """`start` and `start_digest` of a base's training, where `note_start` recorded them beside the base; otherwise nothing."""
    try:
        noted = json.loads((base.parent / POINTER).read_text(encoding="utf-8"))
        return {name: str(noted[name]) for name in ("start", "start_digest")} if noted["folder"] == base.name else {}
    except (OSError, ValueError, LookupError, TypeError):  # nothing is recorded; `follow_pointer` says what is wrong with a record
        return {}


def origin_in_words(facts: Mapping[str, str]) -> str:
    """Where a base comes from, in words: `scratch, begun with bases/textures (1a2b3c4d)`.

    `facts` as in `checkpoints.parquet`; without a start, as in tables that were published before it was recorded, `base.source` alone.
    """
    source = facts.get("base", "")
    return f"{source}, begun with {facts['start']} ({facts['start_digest'][:8]})" if "start" in facts else source


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
