"""`stage chaos`: fault injection on a throwaway run, on the disk at hand.

No finished work may be lost, and no damage may go unnoticed.
"""

import io
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from stage.chaos.injections import FULL_DISK, Injection, can_mount, injections
from stage.chaos.miniature import Miniature, make_miniature
from stage.chaos.processes import HangError, end_all
from stage.chaos.trials import Trial, finish_trial, plan
from stage.core.digests import derived_seed
from stage.core.errors import Refusal
from stage.core.params import Params
from stage.core.progress import track

TIMES = 5
AT_ONCE = 2  # trials; each waits most of the time
NO_DISK = f"No {FULL_DISK}: no process may mount a disk to fill on this machine. A limit on the size of files replaced it."


class TrialResult(NamedTuple):
    """The result of an injection. `trouble` says what went wrong and where the files are; empty if nothing did."""

    fault: str
    place: str
    is_detected: bool
    is_recovered: bool
    trouble: str


def chaos(
    folder: Path, params: Params, kinds: Sequence[Injection] | None = None, *, times: int = TIMES, seed: int = 0
) -> list[TrialResult]:
    """Do every kind of injection `times` times, below a new `folder` on the disk to be tried; `seed` decides the random choices.

    Trials that went wrong stay below the folder; if there are none, the folder is removed. Raises Refusal if it exists.
    """
    if folder.exists():
        raise Refusal(f"Expected a folder to be made for the trials, found that {folder} exists. Name another, or remove it.")
    torch.set_num_threads(1)
    with redirect_stderr(io.StringIO()):
        source = _prepare(folder, params)
    wanted = [(injection, number) for injection in kinds or injections(with_disks=can_mount()) for number in range(times)]
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            attempts = threads.map(lambda one: _attempt(folder, source, one[0], one[1], seed), wanted)
            outcomes = list(track(attempts, total=len(wanted), label="chaos"))
    finally:
        end_all()
    if all(not outcome.trouble for outcome in outcomes):
        shutil.rmtree(folder)
    return outcomes


def chaos_table(outcomes: Sequence[TrialResult]) -> Table:
    """Counts by fault and place, for a terminal."""
    caption = None if any(outcome.fault == FULL_DISK for outcome in outcomes) else NO_DISK
    table = Table("fault", "where", "injected", "detected", "recovered", "lost", title="Injected faults", caption=caption)
    for (fault, place), group in groupby(outcomes, key=lambda outcome: outcome[:2]):
        table.add_row(fault, place, *_counts(list(group)))
    table.add_section()
    table.add_row("all", "", *_counts(outcomes))
    return table


def check_outcomes(outcomes: Sequence[TrialResult]) -> None:
    """Raise Refusal that names every trial after which something was lost, or damage went unnoticed."""
    troubles = [f"{outcome.fault}, {outcome.place}: {outcome.trouble}" for outcome in outcomes if outcome.trouble]
    if troubles:
        raise Refusal(f"Expected to survive {len(outcomes)} injections, found trouble with {len(troubles)}:\n" + "\n".join(troubles))


def _counts(outcomes: Sequence[TrialResult]) -> list[str]:
    detected, recovered = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("is_detected", "is_recovered"))
    return [str(count) for count in (len(outcomes), detected, recovered, len(outcomes) - recovered)]


def _prepare(folder: Path, params: Params) -> Miniature:
    """Make the category, a planned job, and one that was made and published undisturbed."""
    source = make_miniature(folder / "source", params)
    plan(folder / "planned", source)
    finish_trial(plan(folder / "finished", source), folder / "finished")
    return source


def _attempt(folder: Path, source: Miniature, injection: Injection, number: int, seed: int) -> TrialResult:
    chances = np.random.default_rng(derived_seed(seed, injection.fault, injection.place, number))
    name = f"{injection.fault}-{injection.place}-{number}".replace(" ", "-").replace(",", "")
    trial = Trial(folder / name, folder / "finished", source, chances)
    shutil.copytree(folder / ("finished" if injection.is_late else "planned"), trial.root)
    try:
        is_detected = injection.harm(trial)
        is_recovered = trial.run_again() == 0 and trial.matches_undisturbed_run()
        missed = [*(() if is_detected else ("not detected",)), *(() if is_recovered else ("not recovered",))]
    except (HangError, ValueError, OSError) as error:
        is_detected = is_recovered = False
        missed = [str(error)]
    if not missed:
        shutil.rmtree(trial.root)
    trouble = f"{', '.join(missed)}; see {trial.log}" if missed else ""
    return TrialResult(injection.fault, injection.place, is_detected, is_recovered, trouble)
