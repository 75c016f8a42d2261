"""What each night did: `.nightly/nights/<id>.json`, whole at any time, and a folder of the same name with logs and evidence."""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

import psutil
from pydantic import BaseModel, ValidationError

from stage.core.durable import write_whole
from stage.core.processes import is_running, started_s

Outcome = Literal["running", "published", "nothing to do", "refused", "failed", "interrupted", "killed"]
DONE = ("published", "nothing to do", "refused", "failed")  # outcomes of a night that was not stopped from outside
Row = dict[str, Any]


class Step(BaseModel):
    """A step of a night; `seconds` is empty while it runs, or if it was killed."""

    name: str
    began: datetime
    seconds: float | None = None
    told: str = ""


class Record(BaseModel):
    """A night. `changes`, `gate` and `metrics` are tables for people; `message` gives the outcome in one line."""

    id: str
    run_id: str = ""  # of OpenLineage's events; under Prefect also its flow run's
    began: datetime
    ended: datetime | None = None
    host: str
    pid: int
    started: float
    outcome: Outcome = "running"
    message: str = ""
    tag: str = ""
    commit: str = ""
    steps: list[Step] = []
    taken_in: list[str] = []
    set_aside: list[Row] = []
    waiting: list[Row] = []
    changes: list[Row] = []
    gate: list[Row] = []
    metrics: list[Row] = []
    warnings: list[str] = []

    @classmethod
    def here(cls, began: datetime, run_id: str = "") -> Self:
        """The record of a night of this process; its run gets a new id unless it has one."""
        name = began.strftime("%Y-%m-%dT%H-%M-%S")
        return cls(
            id=name,
            run_id=run_id or str(uuid4()),
            began=began,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=started_s(psutil.Process()),
        )

    def write(self, nights: Path) -> None:
        """Write the record; a kill leaves the earlier text."""
        write_whole(self.model_dump_json(indent=2) + "\n", nights / f"{self.id}.json")

    def now(self) -> Self:
        """The record brought up to date: `running` becomes `killed` if its process on this machine is gone."""
        if self.outcome != "running" or self.host != socket.gethostname() or is_running(self.pid, self.started):
            return self
        return self.killed()

    def killed(self) -> Self:
        """The record of a killed night, which could not write this itself."""
        last = self.steps[-1].name if self.steps else "the start"
        return self.model_copy(
            update={"outcome": "killed", "message": f"ended without a word in {last}; the next night goes on from there"}
        )


def running_night(nights: Path) -> Record | None:
    """The record of the running night, if there is one."""
    return next((one for one in read_records(nights) if one.outcome == "running"), None)


def read_records(nights: Path) -> list[Record]:
    """Every night's record, the newest first; files that are not records are left out."""
    found: list[Record] = []
    for path in sorted(nights.glob("*.json"), reverse=True):
        with suppress(OSError, ValidationError, json.JSONDecodeError):
            found.append(Record.model_validate_json(path.read_bytes()).now())
    return found
