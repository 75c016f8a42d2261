"""One night: its steps in order, its record, and how it ends. The tag comes last and publishes the version.

Code -> photographs -> `dvc repro` -> gate -> `dvc push` -> commit -> branch -> tag.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from filelock import FileLock, Timeout

from stage.core.errors import MachineError, Refusal
from stage.core.processes import reached
from stage.core.redaction import without_secrets
from stage.nights.events import night_begins, night_ends
from stage.nights.gate import NotPublished
from stage.nights.holder import holder_of
from stage.nights.programs import ProgramError, Say
from stage.nights.record import DONE, Outcome, Record, Step, read_records, running_night
from stage.nights.repository import Moved
from stage.nights.settings import Nightly, Places, load_nightly
from stage.nights.steps import NightSteps
from stage.nights.webhook import notify

WAIT_S = 1800.0  # for `stage retain`, which may remove objects from a distant remote
POLL_S = 1.0
AGAIN = 2  # times that a night is done again because the remote branch has moved on
Action = Callable[[], str]
Around = Callable[[str, Action], str]  # runs a step with its name; under Prefect as a task


class NightIsRunning(Refusal):
    """Another night is running; the message says in which process and since when."""


class Superseded(Refusal):
    """A late night: another one has run since it was due."""


@dataclass
class Night:
    """A night of a project. `accept`: publish although a metric fell. `say` gets every line that programs print.

    `run_id` names the run in OpenLineage's events; a new one unless Prefect gives it.
    """

    places: Places
    settings: Nightly
    say: Say
    around: Around = lambda _name, action: action()
    accept: bool = False
    run_id: str = ""
    record: Record = field(init=False)
    steps: NightSteps = field(init=False)

    def __post_init__(self) -> None:
        self.record = Record.here(datetime.now().astimezone(), self.run_id)
        deadline = time.monotonic() + self.settings.limit_h * 3600
        self.steps = NightSteps(self.places, self.settings, self.say, self.record, deadline, self.accept)

    @classmethod
    def here(cls, places: Places, say: Say, around: Around | None = None, *, accept: bool = False, run_id: str = "") -> Self:
        """A night with the settings of `nightly.yaml`. Raises ConfigError, after recording and reporting it."""
        try:
            settings = load_nightly(places.root)
        except Refusal as error:
            record = Record.here(datetime.now().astimezone(), run_id)
            night_begins(record)
            end(record, "failed", str(error), places)
            night_ends(record)
            raise
        return cls(places, settings, say, around or cls.around, accept, run_id)

    def run(self, due: datetime | None = None) -> Record:
        """Run the whole night. Raises what a step raises, after recording and reporting it; NightIsRunning and Superseded record nothing.

        `due`: when it should have begun. A night that has finished since then makes it superfluous.
        """
        night_begins(self.record)
        try:
            return self._run(due)
        finally:
            night_ends(self.record)

    def _run(self, due: datetime | None) -> Record:
        with ExitStack() as held:
            try:
                self.places.nights.mkdir(parents=True, exist_ok=True)
                held.enter_context(self._lock())
                self._refuse_if_superseded(due)
                self.steps.folder.mkdir(exist_ok=True)
                self.record.write(self.places.nights)
                self._close_killed()
                outcome, message = self._walk()
                end(self.record, outcome, message, self.places)
                self.record.write(self.places.nights)  # which `end` tried: a night without its record has failed
            except (NightIsRunning, Superseded):
                raise
            except Refusal as error:
                end(self.record, "refused" if isinstance(error, NotPublished) else "failed", str(error), self.places)
                raise
            except Exception as error:
                end(self.record, "failed", f"{type(error).__name__}: {error}", self.places)
                raise
            except BaseException:  # Ctrl-C, a cancelled run
                end(self.record, "interrupted", "stopped by someone; the next night goes on from there", self.places)
                raise
        return self.record

    def _lock(self) -> FileLock:
        """The nights' lock, held. Waits a while for `stage retain`, and not for another night. Raises NightIsRunning, or MachineError."""
        lock, deadline = FileLock(self.places.lock, timeout=0), time.monotonic() + WAIT_S
        while True:
            try:
                lock.acquire()
            except Timeout:
                found = holder_of(self.places)
                if running_night(self.places.nights):
                    raise NightIsRunning(
                        f"Expected no other night in {self.places.root}, found {found}. Wait for it, or end that process; `stage status` shows it."
                    ) from None
                if time.monotonic() > deadline:
                    raise MachineError(
                        f"Expected the lock {self.places.lock} to be free within {WAIT_S / 60:g} min, found {found}. "
                        "Look why it does not end, or end that process; the next night goes on."
                    ) from None
                time.sleep(POLL_S)
            else:
                return lock

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
        with suppress(OSError, ValueError):  # a full disk behind the log must not end the night
            self.say(f"night {self.record.id}: {name}")
        began = time.monotonic()
        try:
            step.told = self.around(name, action)
        finally:
            step.seconds = round(time.monotonic() - began, 1)
            self.record.write(self.places.nights)
        reached(f"after {name}")
        return step.told

    def _refuse_if_superseded(self, due: datetime | None) -> None:
        later = [one for one in read_records(self.places.nights) if due and one.began >= due and one.outcome in DONE]
        if later:
            raise Superseded(
                f"Expected to be the first night since {due}, found {later[0].id}, which has finished. Nothing needs to be done."
            )

    def _close_killed(self) -> None:
        """Record and report earlier nights that were killed. The lock is held, so none runs, on no host: each container has a name of its own."""
        for one in read_records(self.places.nights):
            if one.id == self.record.id or one.outcome not in ("running", "killed") or one.ended is not None:
                continue
            killed = one.killed()
            killed.ended = self.record.began
            killed.warnings += notify(self.places, killed)
            killed.write(self.places.nights)
            night_ends(killed)


def end(record: Record, outcome: Outcome, message: str, places: Places) -> None:
    """Report how a night ended, and record it; what cannot be written is reported nevertheless."""
    record.outcome, record.message = outcome, without_secrets(message)
    record.ended = datetime.now().astimezone()
    record.warnings += notify(places, record)
    with suppress(OSError):
        record.write(places.nights)
