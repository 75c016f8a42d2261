"""Trains several segmenters at once, each in a process bound to one GPU, or to its share of the cores.

Finished trainings are in the spool, where `flows.segment` finds them; correctness does not depend on this module.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.engines import WorkerSlot, places
from flows.tending import POLL_S, last_words, live, worker_variables
from flows.workers import Futures, attended
from stage.core.params import Execution
from stage.core.progress import check_stop, track
from stage.jobs.worker_process import DONE, STOPPED

RELAY_EVERY_S = 60.0


def slots_of(execution: Execution, where: str) -> list[WorkerSlot]:
    """A slot for each of `execution.trainings` at once, on this machine; `where` is `cpu` or `cuda`."""
    return places(execution.model_copy(update={"engine": "local", "workers": execution.trainings}), where)


def train_at_once(category: str, numbers: Sequence[int], slots: Sequence[WorkerSlot]) -> None:
    """Run the category's trainings with these numbers, one in each slot at a time.

    Says why a training failed and goes on: the caller runs it again alone, when there may be enough memory.
    Raises Interrupted when someone asks to stop; the trainings under way have saved their state by then.
    """
    with tempfile.TemporaryDirectory(prefix="stage-trainings-") as folder, ThreadPoolTaskRunner(max_workers=len(slots)) as runner:
        orders, label = Path(folder) / "orders", f"segment {category}, {len(slots)} trainings at once"
        shared = {"category": category, "orders": orders}
        futures = [runner.submit(train_in_turn, {**shared, "place": slot, "numbers": numbers[slot.number :: len(slots)]}) for slot in slots]
        with attended(futures, orders):
            for _ in track(_ended(Path(folder), len(numbers), futures), total=len(numbers), label=label):
                pass


@task(cache_policy=NO_CACHE, task_run_name="trainings on {place.number}")
def train_in_turn(category: str, numbers: Sequence[int], place: WorkerSlot, orders: Path) -> None:
    """Train one after another, each in a process of its own, until `orders` names a signal."""
    for number in numbers:
        log = orders.parent / f"{number}.log"
        command = ["-m", "flows.training", category, str(number), str(os.getpid())]
        _, status = live(command, Path.cwd(), worker_variables(place), orders, log)
        if orders.exists():
            break
        if status not in {DONE, STOPPED}:
            sys.stderr.write(f"{category}, training {number + 1} ended with status {status} and is tried again alone: {last_words(log)}\n")
        log.rename(log.with_suffix(".ended"))


class Told:
    """Prints the last log line of each running training now and then, so that a person or a night sees that it makes progress."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._sizes, self._next = folder, dict[Path, int](), time.monotonic() + RELAY_EVERY_S

    def relay(self) -> None:
        """Print the last line of every log that has grown, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + RELAY_EVERY_S
        for log in sorted(self._folder.glob("*.log")):
            with suppress(OSError):  # its training has just ended
                if (size := log.stat().st_size) != self._sizes.get(log):
                    self._sizes[log] = size
                    sys.stderr.write(f"{last_words(log)}\n")


def _ended(folder: Path, count: int, futures: Futures) -> Iterator[None]:
    """Yield once for every training whose process has ended, until all have ended or no task is left to run them."""
    gone: list[object] = []
    for future in futures:
        future.add_done_callback(gone.append)
    seen, is_last_look, told = 0, False, Told(folder)
    while seen < count and not is_last_look:
        check_stop()
        told.relay()
        is_last_look = len(gone) == len(futures)
        found = len(list(folder.glob("*.ended")))
        for _ in range(found - seen):
            yield
        seen = found
        time.sleep(POLL_S)
