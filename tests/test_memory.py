"""Writing, publishing, reading and checking samples takes the same memory for 200 of them as for 1,000."""

import gc
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from small_factory import Factory, build

from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair, encode_png
from stage.jobs.job import Job
from stage.release import reader
from stage.release.publication import publish_jobs
from stage.release.reader import read_samples
from stage.release.verification import verify
from stage.synthesis.placement import sample_mask
from stage.synthesis.rows import Origin, PlanRow, Verdict
from stage.synthesis.schema import sample_row, write_samples

MIB = 2**20
SLACK = 32 * MIB  # 800 samples are over 55 MiB
SHARD_ROWS = 100
SIDE = 160
VERDICT = Verdict(20.0, 0, 1, 1, 0.25, 0.125, "f" * 64, 0.5, "accepted", "")


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"), SIDE)


def fill(job: Job, factory: Factory) -> None:
    """Every batch, with noise for pictures in place of what a network would make."""
    source, perlin = factory.source(), job.recipe.synthesize.perlin
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    blank, encoded = np.zeros_like(noise), encode_png(noise)
    masks = cache(lambda digest: sample_mask(planned[digest], source, perlin))
    planned: dict[str, PlanRow] = {}

    def write(rows: list[PlanRow], origin: Origin, file: Path) -> None:
        planned.update({row.mask_digest: row for row in rows})
        drawn = [sample_row(row, Pair(blank, masks(row.mask_digest)), VERDICT, origin) for row in rows]
        for row in drawn:  # the noise, which takes long to encode, behind each sample's own mark
            marked = pixels_replaced(row["image"]["bytes"], encoded)
            row |= {"image": {"bytes": marked, "path": None}, "image_digest": pixel_digest(noise)}
        write_samples(drawn, file)

    for number, key in job.batches():
        job.store.keep(key, partial(write, job.rows(number), job.origin(key)))


def pixels_replaced(png: bytes, other: bytes) -> bytes:
    """A PNG with the pixels of another one of the same size."""
    return b"".join((png[: png.index(b"IDAT") - 4], other[other.index(b"IDAT") - 4 :]))


def peak(work: Callable[[], object]) -> int:
    """The most memory that the process holds during the work, in bytes."""
    gc.collect()  # what earlier work left counts for none
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    work()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of a million samples could not be made, published or checked on any machine."""
    monkeypatch.setattr(reader, "CACHE", 4 * MIB)  # full with 200 samples
    peaks: dict[int, list[int]] = {}
    for count in (200, 1_000):
        job = factory.job(tmp_path / f"spool{count}", count=count // 2, batch=50, shard_rows=SHARD_ROWS)
        out = tmp_path / f"out{count}"
        steps = (
            partial(fill, job, factory),
            partial(publish_jobs, [job.folder], out, lease_s=60.0),
            lambda out=out: verified(out),
            lambda out=out: read(out),
        )
        peaks[count] = [peak(step) for step in steps]

    assert all(many < few + SLACK for few, many in zip(peaks[200], peaks[1_000], strict=True)), peaks


def read(out: Path) -> None:
    assert all(pair.mask.any() for pair in read_samples(out, accepted_only=True))


def verified(out: Path) -> None:
    assert verify(out) == []
