"""Where the base lies: trained here, in a folder of the user's, or on a hub."""

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from stage.base import INDEX
from stage.digests import folder_digest
from stage.params import ConfigError

POINTER = "base.json"
TRAINED_HERE = "base"
FILES = (INDEX, "*/*.json", "*/*.txt", "*/*.safetensors")  # never pickles, nor the whole model once more at the root


def locate(source: str) -> Path:
    """The folder of a base given as a folder or a hub id, fetched once to the hub's cache; a ConfigError where there is none."""
    if Path(source).is_dir():
        return Path(source).resolve()
    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"Expected base.source to be a folder with {INDEX} or a hub id that can be fetched, found {source!r}: "
            f"{str(error).partition(chr(10))[0]} Correct it in params.yaml, or download the checkpoint and give its folder."
        ) from None


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
