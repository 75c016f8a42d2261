"""What `stage plan` says beforehand, held against what is then made."""

from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel
from small_factory import Factory, build
from torch.nn.modules.module import register_module_forward_pre_hook

from stage.jobs.forecast import Forecast, check_disk, forecast
from stage.jobs.job import Job
from stage.release.publication import publish_jobs


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def job(factory: Factory, tmp_path: Path) -> Job:
    """Two defect types of 10 samples, in batches of 4 of which the last of each type is half a one."""
    return factory.job(tmp_path / "spool", count=10)


def weight(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_numbers_are_those_of_what_is_then_made(factory: Factory, job: Job, tmp_path: Path) -> None:
    """A run would be begun that ends after the night, or on a full disk."""
    calls: list[object] = []
    found = forecast(job, tmp_path / "out", measure_on="cpu")
    hook = register_module_forward_pre_hook(lambda module, _: calls.append(module) if isinstance(module, UNet2DConditionModel) else None)
    try:
        rendered = factory.fill(job)
    finally:
        hook.remove()
    in_spool = weight(job.store.root / "batches")
    published = publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)["count"]
    shards = weight(tmp_path / "out" / "shards")

    assert (found.samples, found.batches, found.network_calls) == (published, len(rendered), len(calls)) == (20, 6, 24)
    assert found.bytes is not None
    assert in_spool + 2 * shards <= found.bytes <= 1.1 * 3 * in_spool


def test_what_is_there_is_not_made_again_and_yet_published(factory: Factory, job: Job, tmp_path: Path) -> None:
    """A run that was resumed near its end would seem to need no disk, and fail when it publishes."""
    whole = forecast(job, tmp_path / "out", measure_on="cpu")
    factory.fill(job, [0, 1, 5])
    rest = forecast(job, tmp_path / "out", measure_on="cpu")
    factory.fill(job)
    last = forecast(job, tmp_path / "out", measure_on="cpu")
    publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)
    nothing = forecast(job, tmp_path / "out", measure_on="cpu")

    assert (rest.samples, rest.batches, rest.network_calls) == (20 - 4 - 4 - 2, 3, 12)
    made = sum(job.store.file(batch.key).stat().st_size for batch in job.batches())
    assert whole.bytes == pytest.approx(3 * made, rel=0.05)
    assert rest.bytes == pytest.approx(2 * made + made / 2, rel=0.05)
    assert last.bytes == 2 * made
    assert (nothing.samples, nothing.seconds, nothing.bytes) == (0, 0, 0)


def test_a_measurement_keeps_nothing(factory: Factory, job: Job, tmp_path: Path) -> None:
    """What nobody claimed would pass for finished, or every plan would leave something on the disk."""
    before = set(job.store.root.rglob("*"))

    forecast(job, tmp_path / "out", measure_on="cpu")

    assert set(job.store.root.rglob("*")) == before


def test_the_disk_is_to_hold_all_categories_at_once() -> None:
    """The second category would find the disk full of the first."""
    one = Forecast("stage", "bolt", Path("jobs/bolt-1"), 10, 3, 30, 60.0, 2_000_000_000, 5_000_000_000)
    two = one._replace(category="nut", bytes=3_000_000_000)
    check_disk([])
    check_disk([one, two])

    with pytest.raises(
        ValueError, match=r"Expected 5\.000000000 GB free on the disk of jobs/bolt-1, for 20 samples of bolt, nut .* found 4\.999999999 GB"
    ):
        check_disk([one, two._replace(free_bytes=4_999_999_999)])
    check_disk([one._replace(seconds=None, bytes=None)])
