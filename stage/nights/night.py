"""One night, step by step. Each step may be repeated after a kill; the tag comes last, and is the point of no return.

Code -> photographs -> `dvc repro` -> gate -> `dvc push` -> commit -> branch -> tag.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stage.core.durable import write_whole
from stage.core.errors import Refusal
from stage.core.params import Params, load_params
from stage.core.processes import reached
from stage.datasets.found import FILE, use_errors
from stage.nights.completeness import complete_cache
from stage.nights.gate import NotPublished, metric_changes, metric_checks, published_checks, refusal, results_here, results_of
from stage.nights.intake import take_in
from stage.nights.programs import DVC, ProgramError, Say, without_secrets, work
from stage.nights.record import DONE, Outcome, Record, Step, read_records, running_night
from stage.nights.repository import Moved, Repository, share_cache
from stage.nights.settings import Nightly, Places
from stage.nights.versions import LOCK, changed_outputs
from stage.nights.webhook import notify

AGAIN = 2  # times that a night is done again because the remote branch has moved on
EVIDENCE = ("scores.csv", "differences.csv", "fidelity.csv")  # of `evaluate`, which a refused night keeps
Action = Callable[[], str]
Around = Callable[[str, Action], str]  # runs a step of that name; Prefect makes a task of it


class NightIsRunning(Refusal):
    """Another night has not ended; the message says whose and since when."""


class Superseded(Refusal):
    """A night that is late: another one has run since it was due."""


@dataclass
class Night:
    """A night of a project. `accept`: publish although a metric fell. `say` gets every line of the programs."""

    places: Places
    settings: Nightly
    say: Say
    around: Around = lambda _name, action: action()
    accept: bool = False
    record: Record = field(init=False)
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.remotes: list[str] = []
        self.repository = Repository(self.places, self.settings)
        self.record = Record.here(datetime.now().astimezone())
        self.deadline = time.monotonic() + self.settings.limit_h * 3600

    def run(self, due: datetime | None = None) -> Record:
        """The whole night. Raises what a step raises, after it is recorded and told; NightIsRunning and Superseded record nothing.

        `due`: when it should have begun. A night that came to its end since then has done its work.
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

    @property
    def folder(self) -> Path:
        """Logs and evidence of the night."""
        return self.places.nights / self.record.id

    @property
    def day(self) -> date:
        """The local day on which it began, whose version it is."""
        return self.record.began.date()

    @property
    def data(self) -> Path:
        """What the night has made."""
        return self.places.worktree / "data"

    def _recorded(self) -> Record:
        self.folder.mkdir(exist_ok=True)
        self.record.write(self.places.nights)
        try:
            self._end(*self._steps())
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

    def _steps(self) -> tuple[Outcome, str]:
        self._step("take in code", self.take_in_code)
        self._step("take in photographs", self.take_in_photographs)
        if self._params().synthesize.missed_share:
            self._step("take in errors", self.take_in_errors)
        for left in reversed(range(1 + AGAIN)):
            self._step("dvc repro", self.repro)
            if not self.record.changes:
                return "nothing to do", self._step("nothing to do", self.push_what_is_left)
            self._step("gate", self.gate)
            self._step("dvc push", self.push_data)
            self._step("commit", self.commit)
            try:
                self._step("push the branch", self.push_branch)
                break
            except Moved:
                self._step("take in code again", self.take_in_code)
                if not left:
                    raise ProgramError(
                        f"Expected to push {self.settings.branch} at last, found new commits on the remote {1 + AGAIN} times. The next night goes on."
                    ) from None
        return "published", self._step("tag", self.tag)

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

    # The steps, in their order.

    def take_in_code(self) -> str:
        """Fetch, and lay the upstream's code and parameters into the worktree; without the network, those that are known here."""
        try:
            self.repository.fetch()
        except ProgramError as error:
            self.record.warnings.append(f"The git remote could not be reached, so what is known here is used. {error}")
        self.repository.open_worktree()
        self.remotes = share_cache(self.places.root, self.places.worktree)
        return f"{self.settings.upstream} is {self.repository.upstream()[:12]}"

    def take_in_photographs(self) -> str:
        """Move what arrived in the drop folder into `prepare.source`."""
        found = take_in(self.places.drop(self.settings), self._params(), self.settings.settle_s, self.day)
        self.record.taken_in, self.record.set_aside, self.record.waiting = found.taken_in, [*found.set_aside], [*found.waiting]
        return f"{len(found.taken_in)} files taken in, {len(found.set_aside)} set aside, {len(found.waiting)} waiting"

    def take_in_errors(self) -> str:
        """Make what segmenters missed in the last night an input of this one's plan. The data and it are then of one commit."""
        found = use_errors(self.data, self._params().categories, self.places.worktree / FILE)
        told = [f"{sum(one.is_missed for one in some)} of {len(some)} of {category}" for category, some in found.items()]
        return f"missed defects: {', '.join(told) or 'none known'}"

    def repro(self) -> str:
        """Make again what is due, and say which outputs differ from the last version's."""
        self._dvc("repro")
        lock = (self.places.worktree / LOCK).read_text(encoding="utf-8")
        last = self._last_tag()
        self.record.changes = [*changed_outputs(self.repository.lock_of(last) if last else "", lock)]
        return f"{len(self.record.changes)} outputs differ from {last or 'nothing'}"

    def push_what_is_left(self) -> str:
        """Push the last version where a night was killed before it could."""
        tag = self._last_tag()
        try:
            is_left = bool(tag) and self.repository.unpushed(tag)
        except ProgramError:  # the warning stands there already
            is_left = False
        if is_left:
            self.push_data()
            self.repository.push_branch()
            self.repository.push_tag(tag)
            return f"{tag} is the last version, and is now pushed"
        return f"{tag or 'nothing'} is the last version"

    def gate(self) -> str:
        """Refuse a version with a leak, with too few accepted or too unlike samples, or with a metric worse than the last version's."""
        params, last = self._params(), self._last_tag()
        checks = published_checks(self.data, params, self.settings.gate)
        changes = metric_changes(results_here(self.data), results_of(last)) if last else []
        compared = [] if self.accept else [*metric_checks(changes)]
        self.record.metrics = changes
        self.record.gate = [one._asdict() for one in (*checks, *compared)]
        error = refusal([*checks, *compared], last)
        if error:
            self._keep_evidence()
            raise error
        return f"{len(self.record.gate)} checks hold" + ", metrics were not compared" * self.accept

    def push_data(self) -> str:
        """Push the outputs to DVC's remote, where there is one. Raises ProgramError if not all of them are in the cache."""
        complete_cache(self.places.worktree, self._dvc)
        if not self.remotes:
            self.record.warnings.append("DVC has no remote, so the data are on this machine alone: `dvc remote add --default ...`.")
            return "no remote"
        self._dvc("push")
        return "pushed"

    def commit(self) -> str:
        """Commit the upstream's files with the night's own."""
        self.record.commit = self.repository.commit(self._title())
        return self.record.commit[:12]

    def push_branch(self) -> str:
        """Push the night's branch. Raises Moved if someone else has pushed to it."""
        self.repository.push_branch()
        return self.settings.branch

    def tag(self) -> str:
        """Tag the commit and push the tag."""
        self.record.tag = self.repository.tag(self.day, self._title())
        reached("after tagged here")
        self.repository.push_tag(self.record.tag)
        return f"{self.record.tag} is published"

    def _title(self) -> str:
        lines = [f"{one['output']}: {one['change']}" for one in self.record.changes]
        photographs = f"{len(self.record.taken_in)} files were taken in.\n" if self.record.taken_in else ""
        return f"Data of {self.day.isoformat()}\n\n{photographs}" + "\n".join(lines) + f"\n\nNight {self.record.id}, {self.record.host}\n"

    def _dvc(self, *arguments: str) -> str:
        log = self.folder / f"dvc-{arguments[0]}.log"
        return work([*DVC, *arguments], self.places.worktree, log, deadline=self.deadline, say=self.say)

    def _params(self) -> Params:
        return load_params(self.places.worktree / "params.yaml")

    def _last_tag(self) -> str:
        return next(reversed(self.repository.tags()), "")

    def _keep_evidence(self) -> None:
        write_whole(json.dumps({"gate": self.record.gate, "metrics": self.record.metrics}, indent=2) + "\n", self.folder / "gate.json")
        for name in EVIDENCE:
            if (self.data / "evaluate" / name).is_file():
                shutil.copy(self.data / "evaluate" / name, self.folder / name)

    def _refuse_if_superseded(self, due: datetime | None) -> None:
        later = [one for one in read_records(self.places.nights) if due and one.began >= due and one.outcome in DONE]
        if later:
            raise Superseded(
                f"Expected to be the first night since {due}, found {later[0].id}, which came to its end. Nothing is to be done."
            )

    def _close_killed(self) -> None:
        """Write down, and tell, which earlier nights were killed: they could not do it themselves."""
        for one in read_records(self.places.nights):
            if one.outcome == "killed" and one.ended is None:
                one.ended = self.record.began
                one.warnings += notify(self.places, one)
                one.write(self.places.nights)


def _who_runs(places: Places) -> str:
    running = running_night(places.nights)
    whose = f"process {running.pid} on {running.host}, since {running.began:%Y-%m-%d %H:%M}" if running else "another process"
    return f"Expected no other night in {places.root}, found {whose}. Wait for it, or end that process; `stage status` shows it."
