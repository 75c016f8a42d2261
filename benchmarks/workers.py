"""Two workers against one, each with one torch thread, and what their organisation costs beside a shard that takes a minute.

`python -m benchmarks.workers`, on two cores that do nothing else; about two minutes.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stage.batches import Spool
from stage.claims import Owner, take
from stage.jobs import Job, load_job, make_job
from stage.miniature import CATEGORY, make_miniature
from stage.params import load_params
from stage.publication import publish_job
from stage.worker import Rules, Worker, held

SCALE = {  # the demo's networks, at half its steps and batch
    "base": {"image_size": 64},
    "synthesize": {"count": 32, "batch": 8, "steps": 25, "spacing": "uniform", "known_region": "posterior"},
    "execution": {"device": "cpu", "threads": 1},
}
RULES = Rules(lease_s=120, max_deaths=3)
SHARD_S = 60.0
BUDGET = 0.02


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = make_miniature(root / "source", load_params(), SCALE)
        made = {"catalog": source.catalog, "base": source.base, "checkpoint": source.checkpoint}
        folders = [make_job(CATEGORY, **made, params=source.params, spool=Spool(root / f"spool{k}")) for k in range(4)]
        # One, two, two, one: what slows the machine down for a while slows both down.
        seconds = [together(folder, count) for folder, count in zip(folders, (1, 2, 2, 1), strict=True)]
        one, two = (seconds[0] + seconds[3]) / 2, (seconds[1] + seconds[2]) / 2
        batches = len(load_job(folders[0]).batches())
        table = Table("workers", "s", "times as fast", title=f"A job of {batches} batches")
        table.add_row("1", f"{one:.1f}", "1.00")
        table.add_row("2", f"{two:.1f}", f"{one / two:.2f}")
        Console().print(table)
        Console().print(organisation(load_job(folders[0]), one / batches, root / "published"))


def together(folder: Path, count: int) -> float:
    """Seconds in which so many workers make a job, from the moment they all have their model."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count + 1)
    processes = [context.Process(target=_work, args=(folder, barrier)) for _ in range(count)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - start


def _work(folder: Path, barrier: Barrier) -> None:
    torch.set_num_threads(1)
    job = load_job(folder)
    worker = Worker(job, "cpu", RULES)
    barrier.wait()
    for _ in worker.settle(job.batches()):
        pass


def organisation(job: Job, batch_s: float, output: Path) -> Table:
    """What is done for a shard of a minute beside making its samples, each as measured on a finished job."""
    per_shard = SHARD_S / batch_s  # batches
    batch = job.batches()[0]
    content = job.spool.file(batch.key).read_bytes()

    def claim() -> None:
        taken, _ = take(job.claim(batch.number), Owner.here(), lease_s=RULES.lease_s)
        assert taken is not None
        with held(taken, beat_s=RULES.lease_s):
            pass

    costs = {
        "look for the next batch, its rows": (lambda: (job.rows(batch.number), job.origin(batch.key)), 1.0),
        "claim it, beat, give it back": (claim, 1.0),
        "keep it: write, sync, digest, rename": (lambda: job.spool.keep(batch.key, lambda file: file.write_bytes(content) and None), 1.0),
        "publish: check, assemble, digest, sync": (lambda: publish_job(job.folder, output), 1.0 / len(job.batches())),
    }
    table = Table(
        "", "s per batch", f"share of {SHARD_S:.0f} s", title=f"Organisation of a shard of {per_shard:.0f} batches of {batch_s:.1f} s"
    )
    total = 0.0
    for name, (act, share) in costs.items():
        cost = _seconds(act) * share
        total += cost
        table.add_row(name, f"{cost:.4f}", f"{cost / batch_s:.2%}")
    table.add_row("all", f"{total:.4f}", f"{total / batch_s:.2%} (budget {BUDGET:.0%})")
    return table


def _seconds(act: Callable[[], object], times: int = 5) -> float:
    start = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - start) / times


if __name__ == "__main__":
    main()
