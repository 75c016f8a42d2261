"""Whether the Prefect server and the worker that `make nightly-up` started still run, or could be started, for `stage doctor`."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from stage.core.processes import boot_id, is_running
from stage.nights.machine import HOST, Finding
from stage.nights.settings import Nightly, Places

NOTED = "services.json"  # in the nights' home: the processes that `make nightly-up` started
ASK_S = 5.0  # for an answer on this machine
SERVICES = ("server", "worker")


def noted_services(places: Places) -> Any:
    """What is noted of the server and the worker, nothing if the file is damaged; raises OSError if it cannot be read."""
    with suppress(ValueError):
        return json.loads((places.home / NOTED).read_text(encoding="utf-8"))
    return {}


def service_runs(noted: Any, name: str) -> bool:
    """Whether the process that is noted under a name still runs. After a restart of the machine another may have its number and time of start."""
    with suppress(LookupError, TypeError, AttributeError, ValueError):  # of what another program wrote
        return noted[name].get("boot", boot_id()) == boot_id() and is_running(noted[name]["pid"], noted[name]["started"])
    return False


def schedule(places: Places, settings: Nightly | None = None) -> Iterator[Finding]:
    """No schedule, or one whose server or worker has ended, as after a restart of the machine; with settings, whether the port is free."""
    try:
        noted = noted_services(places)
    except FileNotFoundError:
        mend = "Run `make nightly-up`, or use cron or systemd (docs/nights.md)."
        yield Finding("look", "schedule", "no server of this project runs", mend)
        noted = None
    ended = [name for name in SERVICES if not service_runs(noted, name)]
    if settings and "server" in ended and _is_taken(settings.port):
        mend = f"End what `ss -ltnp sport = :{settings.port}` shows, or set another port in nightly.yaml."
        found = f"{HOST}:{settings.port} is taken by another program, so `make nightly-up` cannot start its server"
        yield Finding("look" if noted is None else "fails", "port", found, mend)
    if noted is None:
        return
    if ended:
        mend = "Run `make nightly-up`, or `make nightly-down` if something else starts the nights."
        yield Finding("fails", "schedule", f"no {' and no '.join(ended)} of `make nightly-up` runs, so no night begins", mend)
    else:
        yield Finding("fine", "schedule", "server and worker run")


def _is_taken(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=ASK_S):
        return True
    return False
