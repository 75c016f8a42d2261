"""One plan of 1,000,000 rows: how long it takes to make, in how much memory, and how soon a worker finds its next batch.

`python -m benchmarks.plan [rows]`. The demo's washers: masks turned, mirrored and moved onto the part. Nothing is rendered, so a
file of one byte stands for every finished batch.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from stage.chaos.miniature import make_miniature
from stage.core.params import Params, load_params
from stage.datasets.catalog import prepare
from stage.datasets.demo.dataset import write_demo
from stage.jobs.claims import Owner, take
from stage.jobs.job import Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.synthesis.recipe import recipe_of

ROWS = 1_000_000
BUDGET_S, BUDGET_GIB, BUDGET_MS = 60.0, 2.0, 50.0
CATEGORY = "washer"
FINDS = 200
GIB = 2**30


def main(rows: int) -> None:
    """Print the table."""
    params = load_params()
    with tempfile.TemporaryDirectory() as name:
        job, made_s, busy_s = planned(Path(name), params, rows)
        size = sum(file.stat().st_size for file in job.folder.iterdir())
        first_s, found_ms = finds(job)
    print(f"{rows:,} rows, {rows // params.synthesize.batch:,} batches, {size / 2**20:.0f} MiB")
    print(f"{'':34}{'measured':>12}{'budget':>12}{'ratio':>8}")
    line("plan made, s", made_s, BUDGET_S * rows / ROWS)
    line("of them on the processor, s", busy_s, BUDGET_S * rows / ROWS)
    line("peak memory, GiB", peak_gib(), BUDGET_GIB)
    line("next batch, claimed and read, ms", median(found_ms), BUDGET_MS)
    line("the slowest of them, ms", max(found_ms), BUDGET_MS)
    print(f"what is left, once per worker and with half of it done: {first_s:.2f} s")


def planned(root: Path, params: Params, rows: int) -> tuple[Job, float, float]:
    """A job of so many rows over the demo's images, the seconds that it took, and those on the processor; its networks are small ones."""
    write_demo(root / "raw", params.seed)
    prepare(params.prepare, (CATEGORY,), root / "raw", root / "prepare")
    small = make_miniature(root / "small", params)
    types = 2  # of the demo's washers
    larger = params.model_copy(update={"synthesize": params.synthesize.model_copy(update={"count": rows // types})})
    start, busy = time.perf_counter(), time.process_time()
    recipe = recipe_of("stage", CATEGORY, larger, catalog=root / "prepare" / CATEGORY, base=small.base, checkpoint=small.checkpoint)
    folder = make_job(recipe, BatchStore(root / "spool"))
    made_s, busy_s = time.perf_counter() - start, time.process_time() - busy
    return load_job(folder), made_s, busy_s


def finds(job: Job) -> tuple[float, list[float]]:
    """Seconds of the first look, and milliseconds until the next batches are claimed and read; every other batch is finished."""
    batches = job.batches()
    for batch in batches[::2]:
        file = job.store.file(batch.key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"0")
        file.with_suffix(".json").write_bytes(b"0")
    start = time.perf_counter()
    left = job.left()
    first_s = time.perf_counter() - start
    owner, times = Owner.here(), list[float]()
    for batch in left[:: max(1, len(left) // FINDS)]:
        start = time.perf_counter()
        claim, _ = take(job.claim(batch.number), owner, lease_s=60.0)
        assert claim is not None
        assert not job.store.is_there(batch.key)
        job.rows(batch.number)
        times.append((time.perf_counter() - start) * 1000)
    return first_s, times


def peak_gib() -> float:
    """The most memory that this process has held, GiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(high.split()[1]) * 1024 / GIB


def line(name: str, value: float, budget: float) -> None:
    """One line of the table."""
    print(f"{name:34}{value:12.2f}{budget:12.2f}{value / budget:8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
