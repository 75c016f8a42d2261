"""The steps of a night. A step may be repeated after a kill."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from stage.core.durable import write_whole
from stage.core.errors import CorruptFileError
from stage.core.openlineage import variables_for_runs
from stage.core.params import Params, load_params
from stage.core.processes import reached
from stage.core.wording import counted
from stage.datasets.found import FILE, use_errors
from stage.nights.completeness import complete_cache, complete_remote
from stage.nights.gate import examination, metric_checks, refusal
from stage.nights.intake import take_in
from stage.nights.own_process import in_own_process
from stage.nights.programs import DVC, ProgramError, Say, work
from stage.nights.record import Record
from stage.nights.repository import Moved, Repository, share_cache
from stage.nights.settings import Nightly, Places
from stage.nights.versions import LOCK, changed_outputs

SILENCE_S = 1800.0  # without a line, after which the intake or the gate has hung; a file or a table takes seconds
EVIDENCE = ("scores.csv", "differences.csv", "fidelity.csv")  # outputs of `evaluate` that a refused night keeps


@dataclass
class NightSteps:
    """The steps of a night, in order; each returns a line on what it did.

    `record` gets their findings, `deadline` is a value of `time.monotonic`, `accept`: the gate does not compare metrics.
    """

    places: Places
    settings: Nightly
    say: Say
    record: Record
    deadline: float
    accept: bool
    remotes: list[str] = field(default_factory=list[str])  # of DVC; known once the code is taken in

    def __post_init__(self) -> None:
        self.repository = Repository(self.places, self.settings)

    @property
    def folder(self) -> Path:
        """The folder of the night's logs and evidence."""
        return self.places.nights / self.record.id

    @property
    def day(self) -> date:
        """The local day on which it began, whose version it is."""
        return self.record.began.date()

    @property
    def data(self) -> Path:
        """The folder of what the night has made."""
        return self.places.worktree / "data"

    def take_in_code(self) -> str:
        """Fetch, and check out the upstream's code and parameters in the worktree; without the network, those known here."""
        self.record.warnings += [
            f"Removed {lock}, which a git left that was killed before the machine's start." for lock in self.repository.unlock()
        ]
        try:
            self.repository.fetch()
        except ProgramError as error:
            if self.repository.answers():  # the fault is here, such as a lock of a killed git
                self.repository.fetch()
            else:
                self.record.warnings.append(f"The git remote could not be reached, so what is known here is used. {error}")
        self.repository.open_worktree()
        self.remotes = share_cache(self.places.root, self.places.worktree)
        return f"{self.settings.upstream} is {self.repository.upstream()[:12]}"

    def take_in_photographs(self) -> str:
        """Move what arrived in the drop folder into `prepare.source`."""
        params, drop = self.params(), self.places.drop(self.settings)
        if params.prepare.layout == "demo":
            return "none, since code draws the demo's"
        mend = f"Look whether {drop} and {params.prepare.source} answer: `ls` them."
        found = in_own_process(self._watched("intake", mend), take_in, drop, params, self.settings.settle_s, self.day)
        self.record.taken_in, self.record.set_aside, self.record.waiting = found.taken_in, [*found.set_aside], [*found.waiting]
        return f"{counted(len(found.taken_in), 'file')} taken in, {len(found.set_aside)} set aside, {len(found.waiting)} waiting"

    def take_in_errors(self) -> str:
        """Make what segmenters missed in the last night an input of this one's plan, in the same commit as the data."""
        found = use_errors(self.data, self.params().categories, self.places.worktree / FILE)
        told = [f"{sum(one.is_missed for one in some)} of {len(some)} of {category}" for category, some in found.items()]
        return f"missed defects: {', '.join(told) or 'none known'}"

    def repro(self) -> str:
        """Run `dvc repro`, and record which outputs differ from the last version's."""
        # Longer than a stuck worker has: it is ended first, and another makes its batch.
        self._dvc("repro", silence_s=3 * self.params().execution.stuck_s, **variables_for_runs(self.record.run_id))
        lock = (self.places.worktree / LOCK).read_text(encoding="utf-8")
        last = self._last_tag()
        self.record.changes = [*changed_outputs(self.repository.lock_of(last) if last else "", lock)]
        return f"{counted(len(self.record.changes), 'changed output')} since {last or 'the beginning'}"

    def push_what_is_left(self) -> str:
        """Push the versions of nights that were killed before they could."""
        told = f"{self._last_tag() or 'nothing'} is the last version"
        left: list[str] = []
        with suppress(ProgramError):  # the warning is already recorded
            left = self.repository.unpushed()
        if not left:
            return told
        self.push_data()
        with suppress(Moved):  # the tag brings the version's commits along, and the next version joins both branches
            self.repository.push_branch()
        self.repository.push_tags(left)
        return f"{told}; now pushed: {', '.join(left)}"

    def gate(self) -> str:
        """Refuse a version with a leak, with too few accepted or too unlike samples, or with a metric worse than the last version's."""
        params, last = self.params(), self._last_tag()
        run = self._watched("gate", "Look whether DVC's cache and remote answer: `dvc status --cloud`.")
        checks, changes, problem = in_own_process(run, examination, self.data, params, self.settings.gate, last)
        if problem and not self.accept:
            raise CorruptFileError(f"{problem} `stage nightly --once --accept` publishes without comparing the metrics.")
        self.record.warnings += [f"The metrics were not compared. {problem}"] * bool(problem)
        compared = [] if self.accept else [*metric_checks(changes)]
        self.record.metrics = changes
        self.record.gate = [one._asdict() for one in (*checks, *compared)]
        error = refusal([*checks, *compared], last)
        if error:
            self._keep_evidence()
            raise error
        return f"{len(self.record.gate)} checks hold" + ", metrics were not compared" * self.accept

    def push_data(self) -> str:
        """Push the outputs to DVC's remote, if there is one. Raises ProgramError if not all of them are in the cache, or there in the end."""
        complete_cache(self.places.worktree, self._dvc)
        if not self.remotes:
            self.record.warnings.append("DVC has no remote, so the data are on this machine alone: `dvc remote add --default ...`.")
            return "no remote"
        complete_remote(self.places.worktree, self._dvc)
        return "pushed"

    def commit(self) -> str:
        """Commit the upstream's files and the night's own."""
        self.record.commit = self.repository.commit(self._title())
        return self.record.commit[:12]

    def push_branch(self) -> str:
        """Push the night's branch. Raises Moved if someone else has pushed to it."""
        self.repository.push_branch()
        return self.settings.branch

    def tag(self) -> str:
        """Tag the commit and push the tag, with those that a killed night could not push."""
        self.record.tag = self.repository.tag(self.day, self._title())
        reached("after tagged here")
        self.repository.push_tags(self.repository.unpushed())
        return f"{self.record.tag} is published"

    def _title(self) -> str:
        lines = [f"{one['output']}: {one['change']}" for one in self.record.changes]
        photographs = f"Taken in: {counted(len(self.record.taken_in), 'file')}.\n" if self.record.taken_in else ""
        return f"Data of {self.day.isoformat()}\n\n{photographs}" + "\n".join(lines) + f"\n\nNight {self.record.id}, {self.record.host}\n"

    def _dvc(self, *arguments: str, silence_s: float = math.inf, **variables: str) -> str:
        log = self.folder / f"dvc-{arguments[0]}.log"
        return work([*DVC, *arguments], self.places.worktree, log, deadline=self.deadline, say=self.say, silence_s=silence_s, **variables)

    def _watched(self, name: str, mend: str) -> Callable[[Sequence[str]], str]:
        """Runs a command of ours, which prints a line for every file that it is done with, to the log of that name."""

        def run(command: Sequence[str]) -> str:
            log = self.folder / f"{name}.log"
            return work(
                command,
                self.places.root,
                log,
                deadline=self.deadline,
                say=lambda _line: None,
                silence_s=SILENCE_S,
                name=f"the {name}",
                mend=mend,
            )

        return run

    def params(self) -> Params:
        """The parameters of the code that was taken in."""
        return load_params(self.places.worktree / "params.yaml")

    def _last_tag(self) -> str:
        return next(reversed(self.repository.tags()), "")

    def _keep_evidence(self) -> None:
        write_whole(json.dumps({"gate": self.record.gate, "metrics": self.record.metrics}, indent=2) + "\n", self.folder / "gate.json")
        for name in EVIDENCE:
            if (self.data / "evaluate" / name).is_file():
                shutil.copy(self.data / "evaluate" / name, self.folder / name)
