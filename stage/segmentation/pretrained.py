"""The weights that a segmenter starts from: an mmsegmentation checkpoint, given as a path or URL. Tensors only; pickled code never runs."""

import re
from collections import defaultdict
from collections.abc import Iterable
from http.client import HTTPException
from itertools import accumulate
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stage.core.digests import digest_of, file_digest
from stage.core.durable import FULL, whole_file
from stage.core.errors import ConfigError
from stage.core.progress import track
from stage.core.proxies import users_proxies
from stage.core.redaction import without_secrets
from stage.core.segment_params import place_and_digest

SHOWN, SHAPES = 8, 4  # groups of names in a list of a message, and shapes
TIMEOUT_S, BLOCK = 60, 2**20  # without an answer; bytes that are read at once
NAME = 80  # last letters of a file's name in an address that its copy keeps
Weights = dict[str, Tensor]  # by name
ENCODERS = ("backbone.", "backbone.backbone.")  # where a network has its encoder; the latter is STDC's, inside its context path


def load_pretrained(model: nn.Module, weights: str) -> None:
    """Load every weight of a checkpoint that fits; name those left at random and those ignored. Raises ConfigError if none fits or if it cannot be read.

    A classifier for another number of classes never fits.
    """
    given, own, place = _placed(read_weights(weights), model), model.state_dict(), without_secrets(place_and_digest(weights)[0])
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigError(
            f"Expected weights of this network in segment.weights, found none that fits in {place}: {_unfit(given, own, fitting)}. "
            "Name a checkpoint of the model that it stands beside."
        )
    model.load_state_dict({**own, **fitting})
    told = "; ".join(filter(None, (f"{len(fitting)} of {len(own)} weights loaded", _unfit(given, own, fitting))))
    Console(stderr=True).print(f"{place}: {told}", highlight=False, markup=False)


def _placed(given: Weights, model: nn.Module) -> Weights:
    """The weights under the network's names, also those of an encoder by itself, as mmsegmentation publishes them."""
    own = model.state_dict()
    for place in ("", *ENCODERS):
        if any(place + name in own for name in given):
            return {place + name: value for name, value in given.items()}
    return given


def _unfit(given: Weights, own: Weights, fitting: Weights) -> str:
    """Which weights of a network are not in a checkpoint or have another shape there, and which of the checkpoint the network lacks."""
    other = [name for name in own if name in given and name not in fitting]
    shapes = [f"{name} expected {(*own[name].shape,)}, found {(*given[name].shape,)}" for name in other[:SHAPES]]
    lists = {
        "at random, not in the checkpoint": _groups([name for name in own if name not in given], fitting),
        "at random, of another shape": [*shapes, *_groups(other[SHAPES:], fitting)],
        "ignored, not in the network": _groups([name for name in given if name not in own], fitting),
    }
    return "; ".join(f"{why}: {', '.join(names)}" for why, names in lists.items() if names)


def _groups(names: list[str], fitting: Iterable[str]) -> list[str]:
    """Names, those of a part of which nothing fits as one with their number: `decode_head.* (14)`. Beyond `SHOWN`, only their number."""
    begun = {beginning for name in fitting for beginning in _beginnings(name)}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[next((one for one in _beginnings(name) if one not in begun), name)].append(name)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    shown = [f"{group}* ({len(some)})" if len(some) > 1 else some[0] for group, some in largest[:SHOWN]]
    more = sum(len(some) for _, some in largest[SHOWN:])
    return [*shown, f"and {more} others"] if more else shown


def _beginnings(name: str) -> list[str]:
    """`decode_head.` and `decode_head.bias` of the latter."""
    return [*accumulate(re.findall(r"[^.]*\.?", name)[:-1])]


def read_weights(weights: str) -> Weights:
    """The tensors of a checkpoint by name, of a file or URL; a URL is fetched once, to torch's cache."""
    path = fetch_weights(weights)
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        tensors = content.get("state_dict", content)
        return {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}
    except FileNotFoundError:
        raise ConfigError(f"Expected a checkpoint at segment.weights, found none at {path}. Correct the path in params.yaml.") from None
    except (OSError, ValueError, RuntimeError, AttributeError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ConfigError(
            f"Expected a checkpoint of tensors in {path}, found: {reason}. Objects other than tensors are not read, since they may run "
            "code; save its state_dict as safetensors and name that file in segment.weights."
        ) from error


def fetch_weights(weights: str) -> Path:
    """The local file of a path or URL, which has the digest that is given with it. Raises ConfigError if there is no such file to fetch."""
    place, digest = place_and_digest(weights)
    if "://" not in place:
        path = Path(place)
        if path.is_file():
            _check(path, digest, place)
        return path
    # The digest is of the whole address: two checkpoints may have one name.
    name = PurePosixPath(urlsplit(place).path).name[-NAME:] or "weights.pth"
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{digest_of(place, 8)}-{name}"
    if not path.exists() or (digest and file_digest(path) != digest):
        with whole_file(path) as partial:
            _download(place, partial, is_known=bool(digest))
            _check(partial, digest, place)
    return path


def _download(address: str, path: Path, *, is_known: bool) -> None:
    """Write the file at an address to `path`. Raises ConfigError unless the whole of it came, which torch's own download does not ask.

    An answer in chunks says when one is missing; any other needs a length, unless the file's digest is known.
    """
    request = Request(address, headers={"User-Agent": "stage"})
    try:
        # An opener of its own: `urlopen` keeps the proxies of its first call.
        with users_proxies(), build_opener().open(request, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            if not (size or is_known or answer.headers.get("Transfer-Encoding")):
                raise OSError("an answer without its length, so that half of the file would look like the whole")
            blocks = iter(lambda: answer.read(BLOCK), b"")
            file.writelines(track(blocks, total=-(-size // BLOCK), label=f"{without_secrets(address)}, MiB") if size else blocks)
            if size and file.tell() != size:
                raise OSError(f"{file.tell()} of {size} bytes, then the end of the connection")
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise ConfigError(
            f"Expected to fetch segment.weights from {without_secrets(address)}, found: {without_secrets(str(error))}. "
            "Download it where there is a network, and give the file's path."
        ) from None


def _check(path: Path, digest: str, place: str) -> None:
    """Raise ConfigError unless a file has this digest, or none is asked for."""
    if digest and (found := file_digest(path)) != digest:
        raise ConfigError(
            f"Expected segment.weights with SHA-256 {digest}, found {found} at {without_secrets(place)}. Get the file from where the digest "
            "is from, or correct what follows #sha256= in params.yaml."
        )
