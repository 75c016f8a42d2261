"""Where the base lies: trained here, in a folder of the user's, or on a hub."""

import json
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import httpx

from stage.base import read_schedule
from stage.base_parts import INDEX, PARTS, SMALL_FILES, WEIGHTS, check_files, read_index, weight_files
from stage.digests import folder_digest
from stage.params import ConfigError

POINTER = "base.json"
TRAINED_HERE = "base"


def locate(source: str) -> Path:
    """The folder of a base given as a folder or a hub id, fetched once to the hub's cache; a ConfigError where there is none."""
    if Path(source).is_dir():
        return Path(source).resolve()
    try:
        return _fetch(source)
    except (HFValidationError, httpx.HTTPError, OSError) as error:
        raise ConfigError(
            f"Expected base.source to be a folder with {INDEX} or a hub id that can be fetched, found {source!r}: "
            f"{str(error).partition(chr(10))[0]} Correct it in params.yaml, or download the checkpoint and give its folder."
        ) from None


def _fetch(source: str) -> Path:
    """Index and settings first, so that a checkpoint of another kind is refused before gigabytes of it are fetched; then weights."""
    small = [INDEX, *(f"{part}/{name}" for part in PARTS for name in sorted(SMALL_FILES))]
    folder = Path(snapshot_download(source, allow_patterns=small))
    classes = read_index(folder)
    read_schedule(folder, classes)
    if not all(_is_complete(folder / part, part) for part in classes):
        names = HfApi().list_repo_files(source, revision=folder.name)
        snapshot_download(source, revision=folder.name, allow_patterns=wanted_weights(list(classes), names))
    for part in classes:
        check_files(folder / part, part)
    return folder


def _is_complete(folder: Path, part: str) -> bool:
    try:
        check_files(folder, part)
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


def write_pointer(base: Path, output: Path) -> None:
    """Note in `output` where the base lies, relative if it is in there, and what it is: other weights make other categories."""
    output.mkdir(parents=True, exist_ok=True)
    place = base.relative_to(output) if base.is_relative_to(output) else base
    (output / POINTER).write_text(json.dumps({"folder": place.as_posix(), "digest": folder_digest(base)}) + "\n")


def follow_pointer(output: Path) -> Path:
    """The base's folder that `write_pointer` noted; a ConfigError where it is gone or another one by now."""
    noted = json.loads((output / POINTER).read_text())
    folder = output / noted["folder"]
    if not folder.is_dir() or folder_digest(folder) != noted["digest"]:
        raise ConfigError(f"Expected the base {noted['digest'][:12]} in {folder}, found it changed or gone. Run `dvc repro -f pretrain`.")
    return folder
