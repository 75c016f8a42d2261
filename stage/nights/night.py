"""One night: its steps in order, its record, and how it ends. The tag comes last and publishes the version.

Code -> photographs -> `dvc repro` -> gate -> `dvc push` -> commit -> branch -> tag.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from filelock import FileLock, Timeout

from stage.core.errors import Refusal
from stage.core.processes import reached
from stage.core.redaction import without_secrets
from stage.nights.gate import NotPublished
from stage.nights.programs import ProgramError, Say
from stage.nights.record import DONE, Outcome, Record, Step, read_records, running_night
from stage.nights.repository import Moved
from stage.nights.settings import Nightly, Places
from stage.nights.steps import NightSteps
from stage.nights.webhook import notify

AGAIN = 2  # times that a night is done again because the remote branch has moved on
Action = Callable[[], str]
Around = Callable[[str, Action], str]  # runs a step with its name; under Prefect as a task


class NightIsRunning(Refusal):
    """Another night is running; the message says in which process and since when."""


class Superseded(Refusal):
    """A late night: another one has run since it was due."""


@dataclass
class Night:
    """A night of a project. `accept`: publish although a metric fell. `say` gets every line that programs print."""

    places: Places
    settings: Nightly
    say: Say
    around: Around = lambda _name, action: action()
    accept: bool = False
    record: Record = field(init=False)
    steps: NightSteps = field(init=False)

    def __post_init__(self) -> None:
        self.record = Record.here(datetime.now().astimezone())
        deadline = time.monotonic() + self.settings.limit_h * 3600
        self.steps = NightSteps(self.places, self.settings, self.say, self.record, deadline, self.accept)

    def run(self, due: datetime | None = None) -> Record:
        """Run the whole night. Raises what a step raises, after recording and reporting it; NightIsRunning and Superseded record nothing.

        `due`: when it should have begun. A night that has finished since then makes it superfluous.
        """
        self.places.nights.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.places.lock, timeout=0)
        try:
            with lock:
                self._refuse_if_superseded(due)
                self._close_killed()
                return self._recorded()
        except Timeout:
            raise NightIsRunning(_who_runs(self.places)) from None

    def _recorded(self) -> Record:
        self.steps.folder.mkdir(exist_ok=True)
        self.record.write(self.places.nights)
        try:
            self._end(*self._walk())
        except Refusal as error:
            self._end("refused" if isinstance(error, NotPublished) else "failed", str(error))
            raise
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise
        except BaseException:  # Ctrl-C, a cancelled run
            self._end("interrupted", "stopped by someone; the next night goes on from there")
            raise
        return self.record

    def _walk(self) -> tuple[Outcome, str]:
        self._step("take in code", self.steps.take_in_code)
        self._step("take in photographs", self.steps.take_in_photographs)
        if self.steps.params().synthesize.missed_share:
            self._step("take in errors", self.steps.take_in_errors)
        for left in reversed(range(1 + AGAIN)):
            self._step("dvc repro", self.steps.repro)
            if not self.record.changes:
                return "nothing to do", self._step("nothing to do", self.steps.push_what_is_left)
            self._step("gate", self.steps.gate)
            self._step("dvc push", self.steps.push_data)
            self._step("commit", self.steps.commit)
            try:
                self._step("push the branch", self.steps.push_branch)
                break
            except Moved:
                self._step("take in code again", self.steps.take_in_code)
                if not left:
                    raise ProgramError(
                        f"Expected to push {self.settings.branch} at last, found new commits on the remote {1 + AGAIN} times. The next night goes on."
                    ) from None
        return "published", self._step("tag", self.steps.tag)

    def _step(self, name: str, action: Action) -> str:
        """Run a step under its record."""
        step = Step(name=name, began=datetime.now().astimezone())
        self.record.steps.append(step)
        self.record.write(self.places.nights)
        self.say(f"night {self.record.id}: {name}")
        began = time.monotonic()
        try:
            step.told = self.around(name, action)
        finally:
            step.seconds = round(time.monotonic() - began, 1)
            self.record.write(self.places.nights)
        reached(f"after {name}")
        return step.told

    def _end(self, outcome: Outcome, message: str) -> None:
        self.record.outcome, self.record.message = outcome, without_secrets(message)
        self.record.ended = datetime.now().astimezone()
        self.record.warnings += notify(self.places, self.record)
        self.record.write(self.places.nights)

    def _refuse_if_superseded(self, due: datetime | None) -> None:
        later = [one for one in read_records(self.places.nights) if due and one.began >= due and one.outcome in DONE]
        if later:
            raise Superseded(
                f"Expected to be the first night since {due}, found {later[0].id}, which came to its end. Nothing is to be done."
            )

    def _close_killed(self) -> None:
        """Record and report earlier nights that were killed, since they could not do so themselves."""
        for one in read_records(self.places.nights):
            if one.outcome == "killed" and one.ended is None:
                one.ended = self.record.began
                one.warnings += notify(self.places, one)
                one.write(self.places.nights)


def _who_runs(places: Places) -> str:
    running = running_night(places.nights)
    whose = f"process {running.pid} on {running.host}, since {running.began:%Y-%m-%d %H:%M}" if running else "another process"
    return f"Expected no other night in {places.root}, found {whose}. Wait for it, or end that process; `stage status` shows it."
