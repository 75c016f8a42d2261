"""One Prefect server for all flows of a `dvc repro`: the first flow starts it, the others find it, it ends with its last owner.

Owners are the flow processes and the `dvc` above them. `python -m flows.server` is the server itself.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
from filelock import FileLock, Timeout

from flows import ROOT
from flows.owner import POLL_S, is_alive, owner

if TYPE_CHECKING:
    import uvicorn

START_TIMEOUT_S = 90.0  # the first start also creates the database, maybe under load
LOCK_TIMEOUT_S = 120.0


class ServerError(RuntimeError):
    """No local Prefect server could be found or started."""


def find_or_start(home: Path) -> str:
    """The API address of the server of `home`; it lives at least as long as this process's owner. Raises ServerError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home):
            _register(home, owner(), psutil.Process())
            return _healthy_address(home) or _start(home)
    except (Timeout, OSError) as error:
        raise ServerError(f"Expected a Prefect server of {home}, found {error!r}; see {home / 'server.log'}.") from error


def _lock(home: Path) -> FileLock:
    return FileLock(home / "server.lock", timeout=LOCK_TIMEOUT_S)


def _register(home: Path, *processes: psutil.Process) -> None:
    owners = {*_living_owners(home), *((process.pid, process.create_time()) for process in processes)}
    _write(home / "owners.json", sorted(owners))


def _living_owners(home: Path) -> list[tuple[int, float]]:
    return [(pid, started) for pid, started in _read(home / "owners.json") or [] if is_alive(pid, started)]


def _healthy_address(home: Path) -> str | None:
    """The address in server.json, if the process that wrote it lives and answers."""
    server = _read(home / "server.json")
    if not server or not is_alive(server["pid"], server["started"]):
        return None
    try:
        with build_opener(ProxyHandler({})).open(f"{server['url']}/health", timeout=10) as answer:
            return server["url"] if answer.status == 200 else None
    except (URLError, OSError):
        return None


def _start(home: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(home)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # it outlives this process, or is reaped by it
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        server = _read(home / "server.json")
        if server and server["pid"] == process.pid:
            return server["url"]
        time.sleep(0.05)
    process.kill()
    raise OSError(f"it ended, or did not start within {START_TIMEOUT_S:.0f} s")


def serve(home: Path) -> None:
    """Serve Prefect's API on a free port of this machine until the last owner has gone."""
    import uvicorn  # here, because flows only look for a server
    from prefect.server.api.server import create_app

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(ephemeral=True), log_level="error", timeout_graceful_shutdown=3))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    threading.Thread(target=_watch, args=(server, home, url), daemon=True).start()
    server.run(sockets=[listener])


def _watch(server: "uvicorn.Server", home: Path, url: str) -> None:
    while not server.started:
        time.sleep(0.02)
    me = psutil.Process()
    _write(home / "server.json", {"url": url, "pid": me.pid, "started": me.create_time()})
    try:
        while not _has_retired(home, me.pid):
            time.sleep(POLL_S)
    finally:
        server.should_exit = True


def _has_retired(home: Path, pid: int) -> bool:
    """Whether no owner is left; the address is withdrawn under the lock, so that nobody is handed a server that is ending."""
    if _living_owners(home):
        return False
    with _lock(home):
        if _living_owners(home):
            return False
        if (_read(home / "server.json") or {}).get("pid") == pid:
            (home / "server.json").unlink()
        return True


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(path: Path, value: object) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(value), encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
