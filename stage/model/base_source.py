"""Where the base lies: trained here, in a folder of the user's, or on a hub."""

import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import httpx

from stage.core.errors import ConfigError
from stage.model.base import read_schedule
from stage.model.base_parts import INDEX, PARTS, SMALL_FILES, WEIGHTS, base_digest, check_files, read_index, weight_files

POINTER = "base.json"
TRAINED_HERE = "base"
SMALL = [INDEX, *(f"{part}/{name}" for part in PARTS for name in sorted(SMALL_FILES))]
UNANSWERED = (httpx.HTTPError, OSError)  # what the hub's client raises where there is no hub, or nothing under that name


def locate(source: str) -> Path:
    """The complete folder of a base given as a folder or a hub id, fetched once to the hub's cache; a ConfigError where there is none."""
    if source.strip() and Path(source).is_dir():
        folder = Path(source).resolve()
        _check_base(folder)
        return folder
    try:
        return _fetch(source)
    except (HFValidationError, *UNANSWERED) as error:
        raise ConfigError(
            f"Expected base.source to be a folder with {INDEX} or a hub id that can be fetched, found {source!r}: "
            f"{str(error).partition(chr(10))[0]} Correct it in params.yaml, or download the checkpoint and give its folder."
        ) from None


def _fetch(source: str) -> Path:
    """Index and settings first, so that a checkpoint of another kind is refused before gigabytes of it are fetched; then weights."""
    folder = Path(snapshot_download(source, allow_patterns=SMALL))
    classes = read_index(folder)
    read_schedule(folder, classes)
    try:
        names = HfApi().list_repo_files(source, revision=folder.name)
    except UNANSWERED:
        if not _is_complete(folder):
            raise
        return folder  # complete in the cache, by whatever files another tool chose to fetch
    snapshot_download(source, revision=folder.name, allow_patterns=wanted_weights(list(classes), names))
    _check_base(folder)
    return folder


def _check_base(folder: Path) -> None:
    """Refuse a folder that `load_base` would, as far as can be told without reading weights."""
    classes = read_index(folder)
    read_schedule(folder, classes)
    for part, class_name in classes.items():
        check_files(folder / part, part, class_name)


def _is_complete(folder: Path) -> bool:
    try:
        _check_base(folder)
    except ConfigError:
        return False
    return True


def wanted_weights(parts: list[str], names: list[str]) -> list[str]:
    """Those of a repository's files that hold the weights of these parts: one format each, no variants, nothing at the root."""
    return [
        f"{part}/{name}"
        for part in parts
        if part in WEIGHTS
        for name in weight_files(part, [path.removeprefix(f"{part}/") for path in names if path.startswith(f"{part}/")])
    ]


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
        if _is_complete(folder) and base_digest(folder) == digest:
            return folder
    raise ConfigError(
        f"Expected the base {digest[:12]} of {source!r} that {path} names, found it changed or gone. Run `dvc repro -f pretrain`."
    )


def _places(source: str) -> Iterator[Path]:
    """Where a given base may lie: first as the hub's cache has it, without asking the hub."""
    if not Path(source).is_dir():
        try:
            yield Path(snapshot_download(source, allow_patterns=SMALL, local_files_only=True))
        except (HFValidationError, *UNANSWERED):
            pass  # `locate` says what is wrong, if it cannot fetch it
    yield locate(source)
