"""`make nightly-up` and `make nightly-down`: a Prefect server on this machine, a work pool, a worker, and the deployment of `prefect.yaml`.

`.nightly/services.json` records the started processes; only these are ended.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
from filelock import FileLock, Timeout

from stage.core.digests import file_digest
from stage.core.durable import write_whole
from stage.core.errors import MachineError, Refusal
from stage.core.processes import boot_id, started_s
from stage.core.redaction import for_terminal
from stage.nights.machine import HOST
from stage.nights.programs import output_of
from stage.nights.schedule import NOTED, noted_services, service_runs
from stage.nights.settings import Places, load_nightly

POOL = "stage-nightly"
START_S = 300.0  # the first start also makes the database
END_S = 30.0
PREFECT = (sys.executable, "-m", "prefect")
ORDER = ("worker", "server")  # in which they are ended


class Services(NamedTuple):
    """The server and the worker of a project; `url` is that of the server's API."""

    places: Places
    port: int

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://{HOST}:{self.port}/api"

    def up(self) -> None:
        """Start what does not run, and deploy. Raises MachineError if the server does not answer, or another Prefect server has its port."""
        self.places.home.mkdir(exist_ok=True)
        with self._alone():
            if not self._runs("server"):
                if self._answers("health"):
                    raise MachineError(
                        f"Expected no server at 127.0.0.1:{self.port}, found another Prefect server there. End it, or set another port in nightly.yaml."
                    )
                self._start("server", "server", "start", "--host", HOST, "--port", str(self.port))
            self._wait("server", "health")
            if not self._runs("worker"):
                self._start("worker", "worker", "start", "--pool", POOL, "--type", "process")
            self._wait("worker", f"work_pools/{POOL}")  # which the worker creates
            self._deploy()

    def down(self) -> list[str]:
        """End the worker and its night, if one runs, and then the server; returns the names of those that ran."""
        if not self.places.home.is_dir():
            return []
        with self._alone():
            ended = [name for name in ORDER if self._end(name)]
            (self.places.home / NOTED).unlink(missing_ok=True)
            return ended

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Wait for another `up` or `down` of this project to end, and keep others waiting."""
        lock = FileLock(self.places.home / "services.lock")
        try:
            lock.acquire(timeout=START_S)
        except Timeout:
            raise MachineError(
                f"Expected another `make nightly-up` or `make nightly-down` to end within {START_S:.0f} s, found that it still holds "
                f"{lock.lock_file}. Wait for it, or end it by Ctrl-C, and run the same command."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def environment(self) -> dict[str, str]:
        """The environment of the server, the worker and the commands. The user's `PREFECT_API_DATABASE_CONNECTION_URL` stays in force."""
        own = {
            "PREFECT_HOME": str(self.places.home / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
            # By default a server keeps in memory which run is the one night: if both were killed, it would cancel all later nights.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
        # These processes reach each other without a proxy; the night's other addresses keep the user's. Clients read the name in either case.
        direct = ",".join(filter(None, [os.environ.get("no_proxy", os.environ.get("NO_PROXY")), HOST]))
        own |= {"no_proxy": direct, "NO_PROXY": direct}
        return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(filter(None, [str(self.places.root), os.environ.get("PYTHONPATH", "")]))}

    def _known(self) -> dict[str, Any]:
        with suppress(OSError):
            return noted_services(self.places)
        return {}

    def _runs(self, name: str) -> bool:
        return service_runs(self._known(), name)

    def _start(self, name: str, *arguments: str) -> None:
        log = self.places.home / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*PREFECT, *arguments],
                cwd=self.places.root, env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._note(name, {"pid": process.pid, "started": started_s(psutil.Process(process.pid)), "boot": boot_id(), "port": self.port})
        # It outlives this process, or is reaped by it, now that its start is noted.
        threading.Thread(target=process.wait, daemon=True).start()

    def _note(self, name: str, what: dict[str, Any] | str) -> None:
        write_whole(json.dumps(self._known() | {name: what}), self.places.home / NOTED)

    def _answers(self, path: str) -> bool:
        """Whether a Prefect server answers at the address, and knows the path."""
        with suppress(URLError, OSError), build_opener(ProxyHandler({})).open(f"{self.url}/{path}", timeout=5) as answer:
            return answer.status == 200
        return False

    def _wait(self, name: str, path: str) -> None:
        """Wait until the server knows a path that the named process provides."""
        deadline = time.monotonic() + START_S
        while not self._answers(path):
            if time.monotonic() > deadline or not self._runs(name):
                raise MachineError(
                    f"Expected the {name} to serve {self.url}/{path}, found no answer. {self.places.home / f'{name}.log'} says why."
                )
            time.sleep(0.2)

    def _deploy(self) -> None:
        """Deploy prefect.yaml to the server, unless it is already deployed for this folder."""
        wanted = f"{self.places.root.absolute()} {file_digest(self.places.root / 'prefect.yaml')}"
        if self._known().get("deployed") == wanted and self._answers("deployments/name/nightly/nightly"):
            return
        output_of([*PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"], self.places.root, **self.environment())
        self._note("deployed", wanted)

    def _end(self, name: str) -> bool:
        if not self._runs(name):
            return False
        try:
            process = psutil.Process(self._known()[name]["pid"])
            own = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:  # it has ended since
            return False
        for one in own:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        _, left = psutil.wait_procs(own, timeout=END_S)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=END_S)
        return True


def main(arguments: Sequence[str]) -> None:
    """Run `up` or `down` for the project in the working folder."""
    places = Places(Path.cwd())
    if [*arguments] == ["down"]:
        ended = Services(places, port=0).down()  # reads no nightly.yaml, which may be damaged, or older than its keys
        sys.stdout.write(f"Ended: {', '.join(ended) or 'nothing, since nothing ran'}.\n")
    elif [*arguments] == ["up"]:
        services = Services(places, load_nightly(places.root).port)
        services.up()
        sys.stdout.write(f"The night is scheduled as prefect.yaml says. Watch it: http://127.0.0.1:{services.port}\n")
    else:
        raise Refusal(f"Expected `up` or `down`, found {' '.join(arguments) or 'nothing'}.")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refusal as error:
        sys.exit(for_terminal(str(error)))
