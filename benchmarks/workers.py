"""Two workers against one, each with one torch thread; and what organises them, per shard of a minute and once per run.

`python -m benchmarks.workers`, on two cores that do nothing else; about three minutes.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table

from stage.chaos.miniature import CATEGORY, make_miniature
from stage.core.params import Params, load_params
from stage.jobs.claims import Owner, take
from stage.jobs.heartbeat import beating
from stage.jobs.job import Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.jobs.worker import Rules, Worker
from stage.release.publication import publish_jobs
from stage.synthesis.recipe import recipe_of

SCALE = {  # the demo's networks, at half its steps and batch
    "base": {"image_size": 64},
    "synthesize": {"count": 96, "attempts": 1, "batch": 8, "steps": 25, "spacing": "uniform", "known_region": "posterior"},
    "execution": {"device": "cpu", "threads": 1},
}
RULES = Rules(lease_s=120, max_failures=3)
SHARD_S = 60.0
BUDGET = 0.02
PROBE = """
from pathlib import Path
from prefect import flow
from flows.runtime import run
from flows.workers import make_all
from stage.core.params import Params, load_params

@flow(name="probe")
def probe(job: str, does_work: str) -> None:
    if int(does_work):
        make_all(Path(job), load_params().execution)

if __name__ == "__main__":
    run(probe)
"""


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = make_miniature(root / "source", load_params(), SCALE)
        made = {"catalog": source.catalog, "base": source.base, "checkpoint": source.checkpoint}
        recipe = recipe_of("stage", CATEGORY, source.params, **made)
        folders = [make_job(recipe, BatchStore(root / f"spool{k}")) for k in range(4)]
        # One, two, two, one: what slows the machine down for a while slows both down.
        seconds = [together(folder, count) for folder, count in zip(folders, (1, 2, 2, 1), strict=True)]
        one, two = (seconds[0] + seconds[3]) / 2, (seconds[1] + seconds[2]) / 2
        batches = len(load_job(folders[0]).batches())
        table = Table("workers", "s", "times as fast", title=f"A job of {batches} batches")
        table.add_row("1", f"{one:.1f}", "1.00")
        table.add_row("2", f"{two:.1f}", f"{one / two:.2f} (at least 1.85)")
        Console().print(table)
        Console().print(organisation(load_job(folders[0]), one / batches, root / "published"))
        Console().print(once(source.params, folders[0], root))


def together(folder: Path, count: int) -> float:
    """Seconds in which so many workers make a job, from the moment they all have their model until none has anything left."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count + 1)
    processes = [context.Process(target=_work, args=(folder, barrier)) for _ in range(count)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return seconds


def _work(folder: Path, barrier: Barrier) -> None:
    torch.set_num_threads(1)
    job = load_job(folder)
    worker = Worker(job, "cpu", RULES)
    barrier.wait()
    for _ in worker.settle(job.batches()):
        pass
    barrier.wait()


def organisation(job: Job, batch_s: float, output: Path) -> Table:
    """What is done for a shard of a minute beside making its samples, each as measured on a finished job."""
    per_shard = SHARD_S / batch_s  # batches
    batch = job.batches()[0]
    content = job.store.file(batch.key).read_bytes()

    def claim() -> None:
        taken, _ = take(job.claim(batch.number), Owner.here(), lease_s=RULES.lease_s)
        assert taken is not None
        with beating(taken, lease_s=RULES.lease_s):
            pass

    costs = {
        "look for the next batch, its rows": (lambda: (job.rows(batch.number), job.origin(batch.key)), 1.0),
        "claim it, beat, give it back": (claim, 1.0),
        "keep it: write, sync, digest, rename": (lambda: job.store.keep(batch.key, lambda file: file.write_bytes(content) and None), 1.0),
        "publish: check, assemble, digest, sync": (lambda: publish_jobs([job.folder], output, lease_s=60.0), 1.0 / len(job.batches())),
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


def once(params: Params, job: Path, root: Path) -> Table:
    """What Prefect's tasks and the workers' processes cost a run, whatever its length: a finished job, drained by two processes."""
    execution = params.execution.model_copy(update={"workers": 2})
    (root / "params.yaml").write_text(yaml.safe_dump(params.model_copy(update={"execution": execution}).model_dump(mode="json")))
    (root / "probe.py").write_text(PROBE)
    # The first one makes Prefect's database.
    _, bare_s, whole_s = (_flow(root, job, does_work=does_work) for does_work in (False, False, True))
    table = Table("", "s", title="A run with nothing to make")
    table.add_row("a flow alone: Python, Prefect, its server", f"{bare_s:.1f}")
    table.add_row("two tasks and two worker processes more", f"{whole_s - bare_s:.1f}")
    table.add_row(f"a run is {(whole_s - bare_s) / BUDGET / 60:.0f} min long when that is {BUDGET:.0%} of it", "")
    return table


def _flow(root: Path, job: Path, *, does_work: bool) -> float:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PREFECT_HOME": str(root / "prefect")}
    start = time.perf_counter()
    subprocess.run([sys.executable, "probe.py", str(job), str(int(does_work))], cwd=root, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def _seconds(act: Callable[[], object], times: int = 5) -> float:
    start = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - start) / times


if __name__ == "__main__":
    main()
