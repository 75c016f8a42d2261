"""Looks at the machine for `stage doctor`: proxies and certificates, the GPU, and every disk that a night writes to."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from stage.core.params import Params
from stage.nights.finding import Finding, Level

LEAST_FREE = 2**30  # bytes, where nothing is known of the size of a version
LEAST_FILES = 10_000  # that a disk must have room for; DVC keeps a file per file
NEARLY_FULL = 0.95  # of a disk
HOST = "127.0.0.1"  # of the night's own Prefect server
PROXIES = ("http", "all")  # that catch an address of HOST
DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits")
ASK_S = 60.0
IDENTITY = re.compile(r"\d+|(?:GPU|MIG)-[\w/-]+")  # of a GPU in CUDA_VISIBLE_DEVICES


class Gpu(NamedTuple):
    """A GPU as its driver tells it; memory in MiB."""

    name: str
    driver: str
    total: float
    free: float


def proxies() -> Iterator[Finding]:
    """A proxy between a worker and the server on its own machine, one that Python's clients cannot use, and certificates that are gone."""
    given = {name: address for name, address in getproxies_environment().items() if name != "no"}
    own = [name for name in PROXIES if name in given]
    if own and not proxy_bypass(HOST):
        yield Finding(
            "fails", "proxy", f"{' and '.join(f'{name}_proxy' for name in own)} would catch {HOST}, where the night's Prefect server is",
            f"Run `export no_proxy={HOST},localhost NO_PROXY={HOST},localhost` (with what they have now), also where the night is started.",
        )  # fmt: skip
    for name, address in given.items():
        kind = urlsplit(address).scheme
        if kind.startswith("socks") and find_spec("socksio") is None:
            yield Finding(
                "fails", "proxy", f"{name}_proxy is {kind}, which needs a package", "Run `pip install socksio`, or name an HTTP proxy."
            )
        elif not kind.startswith(("http", "socks")):
            yield Finding("fails", "proxy", f"{name}_proxy does not begin with http:// or socks5://", f"Correct {name}_proxy.")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (place := os.environ.get(name)) and not Path(place).exists():
            yield Finding("fails", "certificates", f"{name} is {place}, which is not there", f"Run `unset {name}`, or correct it.")


def gpu(params: Params) -> Iterator[Finding]:
    """Whether the GPU that `execution.device` asks for can be used, and what of it is free; with `auto` the CPU takes its place."""
    asked = params.execution.device
    if asked == "cpu":
        return
    level: Level = "fails" if asked == "cuda" else "look"
    without = "Set execution.device to cpu in params.yaml, or correct it."
    found = _gpus()
    if not found:
        if asked == "cuda":
            yield Finding("fails", "GPU", "execution.device is cuda, and no driver answers", "Set execution.device to auto in params.yaml.")
        return
    if hidden := _hidden(len(found)):
        yield Finding(level, "GPU", f"CUDA_VISIBLE_DEVICES {hidden}", f"Run `unset CUDA_VISIBLE_DEVICES`. {without}")
        return
    if problem := _torch_problem():
        yield Finding(level, "GPU", f"driver {found[0].driver} answers, and torch sees none: {problem}", f"Update the driver. {without}")
        return
    for one in found:
        told = f"{one.name}, driver {one.driver}, {one.free / 1024:.1f} of {one.total / 1024:.1f} GiB are free"
        is_taken = one.free < one.total / 2
        yield Finding("look" if is_taken else "fine", "GPU", told, "Run `nvidia-smi`, which says who has the rest." * is_taken)


def disks(places: dict[str, Path], wanted: int) -> Iterator[Finding]:
    """Room on each disk that one of these folders is on; `wanted` bytes on that of the first, LEAST_FREE on any other."""
    seen = set[int]()
    for name, place in places.items():
        there = next(one for one in (place.resolve(), *place.resolve().parents) if one.exists())
        if (number := there.stat().st_dev) not in seen:
            yield _disk(name, there, LEAST_FREE if seen else max(LEAST_FREE, wanted))
            seen.add(number)


def temporary() -> Path:
    """Where programs write what they throw away."""
    return Path(tempfile.gettempdir())


def _disk(name: str, place: Path, wanted: int) -> Finding:
    facts, use = os.statvfs(place), shutil.disk_usage(place)
    told = f"{use.free / 1e9:.1f} GB are free, a night may need {wanted / 1e9:.1f}"
    if use.free >= wanted and facts.f_files and facts.f_favail < LEAST_FILES:
        return Finding("fails", name, f"{place} has room for {facts.f_favail} more files", _room(name))
    level: Level = "fails" if use.free < wanted else "look" if use.free < (1 - NEARLY_FULL) * use.total else "fine"
    nearly = f", {100 * (1 - use.free / use.total):.0f} % of it are used" * (level == "look")
    return Finding(level, name, f"{told}{nearly}" + f" ({place})" * (name != "disk"), _room(name) * (level != "fine"))


def _room(name: str) -> str:
    if name in ("disk", "spool", "DVC cache"):
        return "Run `stage retain --dry-run` and `stage gc --dry-run`, which say what may go."
    return "Run `df`, and remove what is not needed there."


def _gpus() -> list[Gpu]:
    try:
        done = subprocess.run(DRIVER, capture_output=True, text=True, check=True, timeout=ASK_S)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [Gpu(row[0], row[1], float(row[2]), float(row[3])) for row in rows if len(row) == 4 and _are_numbers(row[2:])]


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"\d+(\.\d+)?", cell) for cell in cells)


def _hidden(count: int) -> str:
    """What is wrong with CUDA_VISIBLE_DEVICES, with which CUDA sees nothing, or not all that it names; empty if nothing is."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return ""
    names = [name.strip() for name in named.split(",")]
    if names in ([""], ["-1"]):
        return f"is {named!r}, which hides every GPU"
    wrong = [name for name in names if not IDENTITY.fullmatch(name) or (name.isdecimal() and int(name) >= count)]
    return f"is {named!r}, and {wrong[0]!r} is none of {count} GPU(s); CUDA ignores it and what follows" if wrong else ""


def _torch_problem() -> str:
    """Why torch sees no GPU; empty if it sees one."""
    import torch  # here, because it takes seconds, and most machines have no driver

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return ""
