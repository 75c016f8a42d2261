"""What a job will cost, from a short measurement on this machine, before it is begun."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from stage.jobs import Job, load_job
from stage.synthesis.batch import write_batch
from stage.worker import Rules, Worker

COPIES = 3  # of a finished batch: in the spool, in the output, in DVC's cache
MEASURED = 2  # batches; the first one pays for what is loaded and compiled on the way


class Forecast(NamedTuple):
    """What is left of a job; `seconds` is one worker's time on this machine, `size` and `free` are bytes on the spool's disk."""

    samples: int
    batches: int
    network_calls: int
    seconds: float
    size: int
    free: int

    def check_disk(self, folder: Path) -> None:
        """A ValueError where the disk cannot hold it."""
        if self.size > self.free:
            raise ValueError(
                f"Expected {self.size / 1e9:.2f} GB free on the disk of {folder}, for {COPIES} copies of {self.samples} samples, found "
                f"{self.free / 1e9:.2f} GB. Make room (`stage gc --dry-run` says what could go), or lower synthesize.count."
            )


def forecast(folder: Path, *, device: str) -> Forecast:
    """Render the first batches that are left of a job, keeping none, and reckon from the last of them."""
    job = load_job(folder)
    job.check(device)
    left = [batch.number for batch in job.batches() if job.spool.finished(batch.key) is None]
    free = shutil.disk_usage(folder).free
    if not left:
        return Forecast(0, 0, 0, 0.0, 0, free)
    worker = Worker(job, device, Rules(lease_s=0, max_deaths=1))
    seconds, size = [_measure(worker, job, number) for number in left[:MEASURED]][-1]
    count = len(left)
    calls, samples = count * len(worker.renderer.moves), count * job.recipe.synthesize.batch
    return Forecast(samples, count, calls, count * seconds, COPIES * count * size, free)


def _measure(worker: Worker, job: Job, number: int) -> tuple[float, int]:
    """Seconds and bytes of one batch."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=job.folder) as place:
        file = Path(place) / "batch.parquet"
        origin = job.origin(job.batches()[number].key)
        write_batch(worker.renderer, job.rows(number), worker.source, job.recipe.synthesize, origin=origin, file=file)
        return time.perf_counter() - begun, file.stat().st_size
