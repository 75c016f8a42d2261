"""A base given by the user: a folder, or a checkpoint on a hub."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import httpx

from stage.core.errors import ConfigError
from stage.core.proxies import users_proxies
from stage.model.base import read_schedule
from stage.model.files import CLASSES, INDEX, SMALL_FILES, WEIGHTS, check_files, read_index, weight_files

SMALL = [INDEX, *(f"{part}/{name}" for part in CLASSES for name in sorted(SMALL_FILES))]
# What the hub's client raises if there is no hub, nothing under that name, or a proxy that it cannot use.
UNANSWERED = (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError, ValueError)


def locate(source: str) -> Path:
    """The complete folder of a base, given as a folder or as a hub id, which is fetched once to the hub's cache. Raises ConfigError."""
    if source.strip() and Path(source).is_dir():
        folder = Path(source).resolve()
        _check_base(folder)
        return folder
    try:
        with users_proxies():
            return _fetch(source)
    except ConfigError:
        raise
    except UNANSWERED as error:
        raise ConfigError(
            f"Expected base.source to be a folder with {INDEX} or a hub id that can be fetched, found {source!r}: "
            f"{str(error).partition(chr(10))[0]} Correct it in params.yaml, or download the checkpoint and give its folder."
        ) from None


def _fetch(source: str) -> Path:
    """Fetch index and settings first, so that a checkpoint of another kind is refused before gigabytes of weights are fetched."""
    folder = Path(snapshot_download(source, allow_patterns=SMALL))
    classes = read_index(folder)
    read_schedule(folder, classes)
    try:
        names = HfApi().list_repo_files(source, revision=folder.name)
    except UNANSWERED:
        if not _is_complete(folder):
            raise
        return folder  # complete in the cache, whichever files another tool fetched
    snapshot_download(source, revision=folder.name, allow_patterns=wanted_weights(list(classes), names))
    _check_base(folder)
    return folder


def _check_base(folder: Path) -> None:
    """Refuse a folder that `load_base` would refuse, as far as can be told without reading weights."""
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
    """The files of a repository that hold the weights of these parts: one format each, no variants, nothing at the root."""
    return [
        f"{part}/{name}"
        for part in parts
        if part in WEIGHTS
        for name in weight_files(part, [path.removeprefix(f"{part}/") for path in names if path.startswith(f"{part}/")])
    ]


def cached(source: str) -> Path | None:
    """A base's folder in the hub's cache, found without asking the hub; None if it is not there."""
    try:
        return Path(snapshot_download(source, allow_patterns=SMALL, local_files_only=True))
    except UNANSWERED:
        return None
