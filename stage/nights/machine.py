"""Checks the machine for `stage doctor`: proxies and certificates, the GPU, and every disk that a night writes to."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from stage.core.params import Params
from stage.core.paths import nearest_existing
from stage.core.wording import counted

LEAST_FREE = 2**30  # bytes, if the size of a version is unknown
LEAST_FILES = 10_000  # that a disk must have room for; DVC keeps a copy of each file
NEARLY_FULL = 0.95  # of a disk
HOST = "127.0.0.1"  # of the night's own Prefect server
READ = ("http", "https", "all")  # whose variables httpx reads, in either case; it reads an address without a scheme as http
TAKEN = ("http", "https", "socks5", "socks5h")  # schemes that httpx accepts
DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits")
ASK_S = 60.0
IDENTITY = re.compile(r"\d+|(?:GPU|MIG)-[\w/-]+")  # of a GPU in CUDA_VISIBLE_DEVICES
Severity = Literal["fine", "look", "fails"]


class Finding(NamedTuple):
    """Something that a run or a night needs. `fails`: a run or a night will fail; `look`: it will not, but somebody should know.

    `mend` is the next command, or what to do.
    """

    level: Severity
    what: str
    found: str
    mend: str = ""


class Gpu(NamedTuple):
    """A GPU as its driver describes it; memory in MiB, None if not given (a GPU in parts, or one that shares the machine's memory)."""

    name: str
    driver: str
    total: float | None
    free: float | None


def proxies() -> Iterator[Finding]:
    """Proxies that Python's clients cannot use, and missing certificates."""
    given = {name: address for name, address in getproxies_environment().items() if name in READ}
    for name, address in given.items():
        kind = urlsplit(address).scheme if "://" in address else "http"
        if kind not in TAKEN:
            yield Finding("fails", "proxy", f"{name}_proxy is {kind}, none of {', '.join(TAKEN)}", f"Correct {name}_proxy.")
        elif kind.startswith("socks") and find_spec("socksio") is None:
            yield Finding(
                "fails", "proxy", f"{name}_proxy is {kind}, which needs a package", "Run `pip install socksio`, or name an HTTP proxy."
            )
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (place := os.environ.get(name)) and not Path(place).exists():
            yield Finding("fails", "certificates", f"{name} is {place}, which is not there", f"Run `unset {name}`, or correct it.")


def gpu(params: Params) -> Iterator[Finding]:
    """Whether the GPU that `execution.device` asks for can be used, and how much of it is free; with `auto` the CPU can replace it."""
    asked = params.execution.device
    if asked == "cpu":
        return
    level: Severity = "fails" if asked == "cuda" else "look"
    without = "Set execution.device to cpu in params.yaml, or correct it."
    found = _gpus()
    if not found:
        if asked == "cuda":
            yield Finding("fails", "GPU", "execution.device is cuda, but no driver answers", "Set execution.device to auto in params.yaml.")
        return
    if hidden := _hidden(len(found)):
        yield Finding(level, "GPU", f"CUDA_VISIBLE_DEVICES {hidden}", f"Run `unset CUDA_VISIBLE_DEVICES`. {without}")
        return
    if problem := _torch_problem():
        told, mend = problem
        yield Finding(level, "GPU", f"driver {found[0].driver} answers, but torch sees none: {told}", f"{mend} {without}")
        return
    yield from map(_memory, found)


def _memory(one: Gpu) -> Finding:
    if one.total is None or one.free is None:
        return Finding("fine", "GPU", f"{one.name}, driver {one.driver}, which does not report its memory")
    told = f"{one.name}, driver {one.driver}, {one.free / 1024:.1f} of {one.total / 1024:.1f} GiB are free"
    is_taken = one.free < one.total / 2
    return Finding("look" if is_taken else "fine", "GPU", told, "Run `nvidia-smi`, which says who has the rest." * is_taken)


def disks(places: Mapping[str, Path], wanted: Mapping[str, int]) -> Iterator[Finding]:
    """Room on each disk that holds one of these folders: the bytes that its folders need together, and at least LEAST_FREE.

    A disk is named by its first folder. `wanted`: bytes by the folder's name; other folders need none.
    """
    found = dict[int, tuple[str, Path, int]]()
    for name, place in places.items():
        there = nearest_existing(place.resolve())
        number = there.stat().st_dev
        first, where, size = found.get(number, (name, there, 0))
        found[number] = first, where, size + wanted.get(name, 0)
    for name, place, size in found.values():
        yield _disk(name, place, max(LEAST_FREE, size))


def temporary() -> Path:
    """The folder of temporary files."""
    return Path(tempfile.gettempdir())


def _disk(name: str, place: Path, wanted: int) -> Finding:
    facts, use = os.statvfs(place), shutil.disk_usage(place)
    told = f"{use.free / 1e9:.1f} GB are free, a night may need {wanted / 1e9:.1f}"
    if use.free >= wanted and facts.f_files and facts.f_favail < LEAST_FILES:
        return Finding("fails", name, f"{place} has room for {counted(facts.f_favail, 'more file')}", _room(name))
    level: Severity = "fails" if use.free < wanted else "look" if use.free < (1 - NEARLY_FULL) * use.total else "fine"
    nearly = f", {100 * (1 - use.free / use.total):.0f} % of it are used" * (level == "look")
    return Finding(level, name, f"{told}{nearly}" + f" ({place})" * (name != "disk"), _room(name) * (level != "fine"))


def _room(name: str) -> str:
    if name in ("disk", "worktree", "night's spool", "spool", "DVC cache"):
        return "Run `stage retain --dry-run` and `stage gc --dry-run`, which say what may go."
    return "Run `df`, and remove what is not needed there."


def _gpus() -> list[Gpu]:
    try:
        done = subprocess.run(DRIVER, capture_output=True, text=True, check=True, timeout=ASK_S)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [Gpu(row[0], row[1], _mib(row[2]), _mib(row[3])) for row in rows if len(row) == 4]


def _mib(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else None  # [N/A]


def _hidden(count: int) -> str:
    """What is wrong with CUDA_VISIBLE_DEVICES, so that CUDA sees no GPU or not all that it names; empty if nothing is."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return ""
    names = [name.strip() for name in named.split(",")]
    if names in ([""], ["-1"]):
        return f"is {named!r}, which hides every GPU"
    wrong = [name for name in names if not IDENTITY.fullmatch(name) or (name.isdecimal() and int(name) >= count)]
    return f"is {named!r}, and {wrong[0]!r} names none of this machine's GPUs ({count}); CUDA ignores it and what follows" if wrong else ""


def _torch_problem() -> tuple[str, str] | None:
    """Why torch sees no GPU and what to do; None if it sees one."""
    import torch  # here, because it takes seconds, and most machines have no driver

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA", "Install the torch of the same version that is built with CUDA."
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return str(error).splitlines()[0], "Update the driver."
    return None
