"""One Prefect server on each machine for all flows of a `dvc repro`: the first flow starts it, the others find it, and it ends with its last
owner. Owners are the flow processes and the `dvc` above them. `python -m flows.server` is the server itself.

The server listens only on its own machine, and keeps its runs in a database that only one machine may open. If several machines or
containers share the folder, the first uses it, and each of the others uses a folder in it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
from filelock import FileLock, Timeout

from flows import ROOT
from flows.home import has_folder, is_anothers, living_owners, machine, read_object, register
from flows.owner import POLL_S, owner
from stage.core.durable import write_whole
from stage.core.processes import is_running, started_s

if TYPE_CHECKING:
    import uvicorn

START_TIMEOUT_S = 90.0  # the first start also creates the database, maybe under load
LOCK_TIMEOUT_S = 120.0


class ServerError(RuntimeError):
    """No local Prefect server could be found or started."""


def find_or_start(home: Path) -> str:
    """The API address of this machine's server in `home`, which runs at least as long as this process's owner. Raises ServerError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home):
            if not is_anothers(home):
                register(home, owner(), psutil.Process())
                return _healthy_address(home) or _start(home)
    except (Timeout, OSError, psutil.Error) as error:
        raise ServerError(f"Expected a Prefect server of {home}, found {error!r}; see {home / 'server.log'}.") from error
    return find_or_start(home / socket.gethostname())


def _lock(home: Path) -> FileLock:
    return FileLock(home / "server.lock", timeout=LOCK_TIMEOUT_S)


def _healthy_address(home: Path) -> str | None:
    """The address in server.json, if the process that wrote it runs and answers."""
    server = read_object(home / "server.json")
    if not server or server.get("machine") != machine() or not is_running(server["pid"], server["started"]):
        return None
    try:
        with build_opener(ProxyHandler({})).open(f"{server['url']}/health", timeout=10) as answer:
            return server["url"] if answer.status == 200 else None
    except (URLError, OSError):
        return None


def _start(home: Path) -> str:
    if not (home / "prefect.db").exists() and not any("DATABASE_CONNECTION_URL" in name for name in os.environ):  # unless it is elsewhere
        sys.stderr.write("Prefect creates its database once; this takes up to half a minute.\n")
    own = {"PREFECT_HOME": str(home), "PREFECT_API_SSL_CERT_FILE": ""}  # a user's certificates are for a distant server
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | own
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(home)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # it outlives this process, or is reaped by it
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        server = read_object(home / "server.json")
        if server and server.get("machine") == machine() and server["pid"] == process.pid:
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
    write_whole(json.dumps({"url": url, "machine": machine(), "pid": me.pid, "started": started_s(me)}), home / "server.json")
    while home.is_dir():  # the folder may be deleted while the server runs
        with suppress(OSError, Timeout):  # a shared disk that is away for a moment, or a lock that is held for long
            if has_retired(home, me.pid):
                break
        time.sleep(POLL_S)
    server.should_exit = True


def has_retired(home: Path, pid: int) -> bool:
    """Whether no owner is left, or another machine has the folder; if not, send a heartbeat.

    The address is withdrawn under the lock, so that no flow gets the address of a server that is ending.
    """
    if living_owners(home) and has_folder(home):
        os.utime(home / "server.json")
        return False
    with _lock(home):
        if not has_folder(home):
            return True
        if living_owners(home):
            return False
        if (read_object(home / "server.json") or {}).get("pid") == pid:
            (home / "server.json").unlink()
        return True


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
