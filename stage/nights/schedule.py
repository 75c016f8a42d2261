"""Whether the Prefect server and the worker that `make nightly-up` started still run and work, or could be started, for `stage doctor`."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from stage.core.processes import boot_id, is_running
from stage.nights.machine import HOST, Finding
from stage.nights.settings import Nightly, Places

NOTED = "services.json"  # in the nights' home: the processes that `make nightly-up` started
ASK_S = 5.0  # for an answer on this machine
BUSY_S = 20.0  # for one that the server's database must give, beside a night
LATE = timedelta(minutes=15)  # a worker that lives takes a night within a minute
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
        yield _at_work(noted["server"].get("port"))


def _at_work(port: int | None) -> Finding:
    """Whether the server answers and its worker takes the nights that are due: a process that hangs still runs. `port`: None if it is not noted."""
    idle = ""
    try:
        if port and (late := _late(port)):
            idle = f"a night has been due since {late[0]['next_scheduled_start_time'][:16]} UTC, and the worker has not begun it"
    except HTTPError:
        pass  # a busy database
    except (OSError, HTTPException, ValueError):
        idle = f"the server gives no answer at {HOST}:{port} within {BUSY_S:g} s"
    if not idle:
        return Finding("fine", "schedule", "server and worker run")
    return Finding("fails", "schedule", idle, "If it is so a minute later, too, run `make nightly-down` and `make nightly-up`.")


def _late(port: int) -> Any:
    """The first of the nights that were due more than LATE ago and have not begun."""
    before = (datetime.now().astimezone() - LATE).isoformat()
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": before}}
    asked = {"flow_runs": due, "deployments": {"name": {"any_": ["nightly"]}}, "sort": "NEXT_SCHEDULED_START_TIME_ASC", "limit": 1}
    request = Request(f"http://{HOST}:{port}/api/flow_runs/filter", json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=BUSY_S) as answer:
        return json.loads(answer.read())


def _is_taken(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=ASK_S):
        return True
    return False
