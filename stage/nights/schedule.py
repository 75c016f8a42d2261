"""Whether the Prefect server and the worker that `make nightly-up` started still run, for `stage doctor`."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from stage.core.processes import is_running
from stage.nights.machine import Finding
from stage.nights.settings import Nightly, Places

NOTED = "services.json"  # in the nights' home: the processes that `make nightly-up` started
SERVICES = ("server", "worker")


def noted_services(places: Places) -> Any:
    """What is noted of the server and the worker, nothing if the file is damaged; raises OSError if it cannot be read."""
    with suppress(ValueError):
        return json.loads((places.home / NOTED).read_text(encoding="utf-8"))
    return {}


def service_runs(noted: Any, name: str) -> bool:
    """Whether the process that is noted under a name still runs."""
    with suppress(KeyError, TypeError):
        return is_running(noted[name]["pid"], noted[name]["started"])
    return False


def schedule(places: Places, _settings: Nightly | None = None) -> Iterator[Finding]:
    """No schedule, or one whose server or worker has ended, as after a restart of the machine."""
    try:
        noted = noted_services(places)
    except FileNotFoundError:
        mend = "Run `make nightly-up`, or use cron or systemd (docs/nights.md)."
        yield Finding("look", "schedule", "no server of this project runs", mend)
        return
    ended = [name for name in SERVICES if not service_runs(noted, name)]
    if ended:
        mend = "Run `make nightly-up`, or `make nightly-down` if something else starts the nights."
        yield Finding("fails", "schedule", f"no {' and no '.join(ended)} of `make nightly-up` runs, so no night begins", mend)
    else:
        yield Finding("fine", "schedule", "server and worker run")
