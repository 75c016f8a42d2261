"""Reads and writes the folder of a Prefect server: which machine has it, where its server is, and who needs it.

`server.json` has the server's address, machine and process; the time of its change is the server's heartbeat. `owners.json` has
the processes that keep the server running.
"""

import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from flows.owner import POLL_S
from stage.core.durable import write_whole
from stage.core.processes import is_running, started_s
from stage.jobs.claims import Owner

LEASE_S = 60.0  # seconds without a heartbeat of another machine's server, after which it is watched
LOOK_S = 5.0  # how long to watch for a heartbeat, since the clocks of two machines may differ and one may be set


@cache
def machine() -> list[str]:
    """The host's name, and what its process ids are unique in: the run of its kernel, and the container."""
    here = Owner.here()
    return [here.host, here.world]


def is_anothers(home: Path) -> bool:
    """Whether a living server of another machine holds the folder."""
    server = read_object(home / "server.json")
    if not server or server.get("machine") == machine():
        return False
    beat = _last_beat(home)
    deadline = time.monotonic() + LOOK_S
    while abs(time.time() - beat) > LEASE_S:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
        if _last_beat(home) != beat:
            return True
    return True


def _last_beat(home: Path) -> float:
    try:
        return (home / "server.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def has_folder(home: Path) -> bool:
    """Whether the folder's newest server is on this machine."""
    return (read_object(home / "server.json") or {}).get("machine") == machine()


def register(home: Path, *processes: psutil.Process) -> None:
    """Add owners to those that are alive."""
    owners = {*living_owners(home), *((process.pid, started_s(process)) for process in processes)}
    write_whole(json.dumps({"machine": machine(), "processes": sorted(owners)}), home / "owners.json")


def living_owners(home: Path) -> list[tuple[int, float]]:
    """Process ids and starting times of the owners that are alive; owners on another machine do not use this server."""
    noted = read_object(home / "owners.json")
    if not noted or noted["machine"] != machine():
        return []
    return [(pid, started) for pid, started in noted["processes"] if is_running(pid, started)]


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no file or no such object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
