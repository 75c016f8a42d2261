"""The night as a Prefect flow: each step a task, its lines in the log of the run, tables as artifacts.

`stage nightly --once` is the same without Prefect. The server is not needed once a night has begun: without it, the night goes on, and only
`.nightly/nights` has its record.
"""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterExpectedStartTime
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.runtime import API_TROUBLE
from stage.core.errors import Refusal
from stage.core.wording import counted
from stage.nights.gate import NotPublished
from stage.nights.night import Action, Night, NightIsRunning, Superseded
from stage.nights.record import Record
from stage.nights.repository import Moved
from stage.nights.settings import Places

REPORT = "data/evaluate/report/index.html"  # in the worktree


@flow(name="nightly", log_prints=False)
def nightly() -> State[Any]:
    """One night of the project in the working folder. It is cancelled if another night runs, or has run since one was last due."""
    root = Path.cwd()
    if deployment.id:
        outlive_the_worker(Places(root).home / "worker.log")
    try:
        night = Night.here(Places(root), get_run_logger().info, as_task, run_id=str(flow_run.id))
    except Refusal as error:
        return Failed(message=str(error))
    try:
        night.run(due=_due())
        return Completed(message=f"{night.record.outcome}: {night.record.message}")
    except (NightIsRunning, Superseded) as error:
        return Cancelled(message=str(error))
    except Refusal as error:
        return Failed(message=str(error), name="Refused" if isinstance(error, NotPublished) else "Failed")
    finally:
        if night.record.steps:
            show_night(night)


def outlive_the_worker(log: Path) -> None:
    """Write to the worker's log and not into a pipe to the worker: without a reader, the next line would end the night (rich 15 ends the process)."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def as_task(name: str, action: Action) -> str:
    """Run a step as a task of that name. It runs exactly once, even if the server fails."""
    done: list[str] = []
    raised: list[Exception] = []

    @task(name=name, cache_policy=NO_CACHE)
    def step() -> str | State[Any]:
        try:
            done.append(action())
        except (Refusal, Moved) as error:  # not a fault of the code: a message without a traceback
            raised.append(error)
            return Failed(message=str(error) or "the remote branch has moved on")
        except Exception as error:
            raised.append(error)
            raise
        return done[0]

    try:
        step(return_state=True)
    except API_TROUBLE as trouble:
        sys.stderr.write(f"Prefect did not answer and could not record {name}: {trouble!r}\n")
    if raised:
        raise raised[0]
    return done[0] if done else action()


def last_due(schedule: UUID, own: datetime) -> datetime:
    """When a night of a deployment was last due. With several late runs, the first stands for all: Prefect cancels those that meet it.

    `own`: when this run was due, which is the answer if Prefect does not answer.
    """
    until_now = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[schedule]),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now().astimezone()}),
    )
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=until_now, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    except API_TROUBLE as trouble:
        sys.stderr.write(f"Prefect did not answer and could not say when a night was last due: {trouble!r}\n")
        return own
    return max([own, *(one.expected_start_time for one in runs if one.expected_start_time)])


def show_night(night: Night) -> None:
    """Make the run's artifacts: a summary, the metrics beside the last version's, the gate, and what changed."""
    record = night.record
    try:
        create_markdown_artifact(summary(record, night.places.worktree / REPORT), key="nightly-summary")
        for key, rows in (("nightly-metrics", record.metrics), ("nightly-gate", record.gate), ("nightly-changes", record.changes)):
            if rows:
                create_table_artifact([*map(_plain, rows)], key=key, description=f"Night {record.id}: {record.outcome}")
    except API_TROUBLE as trouble:
        sys.stderr.write(f"Prefect did not answer and could not keep the artifacts: {trouble!r}\n")


def summary(record: Record, report: Path) -> str:
    """A night on a page of Markdown, in which names from data are no HTML."""
    counts = f"{counted(len(record.taken_in), 'file')} taken in, {len(record.set_aside)} set aside, {len(record.waiting)} waiting."
    link = f"The report: file://{report}" if report.is_file() else "There is no report."
    steps = "\n".join(f"| {step.name} | {'' if step.seconds is None else step.seconds} | {_line(step.told)} |" for step in record.steps)
    table = f"| step | s | |\n|---|--:|---|\n{steps}"
    message = escape(record.message, quote=False)
    return "\n\n".join([f"# {record.outcome} {record.tag}", message, counts, link, table, *_warnings(record.warnings)])


def _warnings(warnings: Sequence[str]) -> list[str]:
    return [f"> {_line(one)}" for one in warnings]


def _line(text: str) -> str:
    return " ".join(escape(text, quote=False).replace("|", "\\|").split())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def _due() -> datetime:
    own = datetime.fromisoformat(str(flow_run.scheduled_start_time))
    return last_due(UUID(deployment.id), own) if deployment.id else own


if __name__ == "__main__":
    nightly()
