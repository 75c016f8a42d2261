"""Publication: the same bytes whatever happened before, as a whole or not at all, and nothing damaged among them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from datasets import load_dataset
from small_factory import Factory, build

from stage.chaos.damage import flipped
from stage.core.errors import CorruptFileError, IncompleteRunError
from stage.datasets.table import read_catalog
from stage.jobs.job import Job
from stage.model.base_pointer import note_start, origin_in_words, write_pointer
from stage.release.publication import publish_jobs, publish_runs
from stage.release.tables import checkpoints
from stage.release.verification import verify, verify_runs


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def job(factory: Factory, tmp_path: Path) -> Job:
    return factory.job(tmp_path / "spool")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sample_ids(folder: Path) -> list[str]:
    return [sample for path in sorted((folder / "shards").iterdir()) for sample in pd.read_parquet(path).sample_id]


def test_any_order_of_batches_gives_the_same_bytes(factory: Factory, tmp_path: Path) -> None:
    """A data set would depend on how many workers there were, and who died; DVC would train every arm again on equal samples."""
    published: list[tuple[dict[str, bytes], str]] = []
    for place, order in enumerate([(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 3, 0, 1)]):
        job = factory.job(tmp_path / f"spool{place}")
        for number in order:
            factory.fill(job, [number])
        manifest = publish_jobs([job.folder], tmp_path / f"out{place}", lease_s=60.0)
        published.append((contents(tmp_path / f"out{place}"), manifest["digest"]))

    assert published[0] == published[1] == published[2]
    assert len(published[0][0]) == 4 + 4 + 3  # shards, tables, manifest, card and Croissant metadata


@pytest.mark.parametrize("method", ["stage", "paste"])
def test_what_is_published_is_right(factory: Factory, tmp_path: Path, method: str) -> None:
    """`stage verify` would find fault with every data set, or samples that nobody asked for would be among them."""
    job = factory.job(tmp_path / "spool", method=method)
    factory.fill(job)
    manifest = publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)

    assert verify(tmp_path / "out") == []
    assert sample_ids(tmp_path / "out") == [f"{method}/part/{defect}/{k:06d}/0" for defect in ("crack", "spot") for k in range(6)]
    assert (manifest["count"], manifest["tables"]["plan.parquet"]["rows"]) == (12, 12)


def test_fewer_samples_leave_no_orphan_and_more_keep_what_was_made(factory: Factory, tmp_path: Path) -> None:
    """Samples of an earlier version would stay among the new ones, or all be rendered again."""
    made: list[list[int]] = []
    for count in (6, 3, 9):
        job = factory.job(tmp_path / "spool", count=count)
        made.append(factory.fill(job))
        publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)

        assert len(sample_ids(tmp_path / "out")) == 2 * count
        assert verify(tmp_path / "out") == []
    assert made == [[0, 1, 2, 3], [], [2, 5]]


def test_an_unfinished_job_is_not_published(factory: Factory, job: Job, tmp_path: Path) -> None:
    """A data set with holes would take the place of a whole one."""
    (tmp_path / "out").mkdir()
    factory.fill(job, [0, 2, 3])

    with pytest.raises(IncompleteRunError, match=r"Expected all 4 batches of part, found 1 missing .*: 1 that no worker was left to make"):
        publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)
    assert not [*(tmp_path / "out").iterdir()]


def test_work_that_was_set_aside_is_named(factory: Factory, job: Job, tmp_path: Path) -> None:
    """A user would see that something is missing, and not why."""
    factory.fill(job, [0, 2, 3])
    job.aside(1).parent.mkdir()
    job.aside(1).write_text(json.dumps({"reason": "its worker died 3 times"}))

    with pytest.raises(IncompleteRunError, match=r"batch 1, stage/part/crack/000004/0 to 000007 \(its worker died 3 times\)"):
        publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(flipped(content, 4 * len(content)))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_sidecar(file: Path) -> None:
    file.with_suffix(".json").unlink()


def torn_sidecar(file: Path) -> None:
    file.with_suffix(".json").write_bytes(b"\0\xff")


@pytest.mark.parametrize("damage", [flip, truncate, empty, no_sidecar, torn_sidecar, Path.unlink])
def test_a_damaged_batch_is_found_and_made_again(factory: Factory, job: Job, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    """A bit that a disk lost would become a sample."""
    factory.fill(job)
    expected = publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)["digest"]
    damage(job.store.file(job.batches()[1].key))

    with pytest.raises((IncompleteRunError, CorruptFileError), match=r"found 1 missing|batch 1 of .* as it was kept"):
        publish_jobs([job.folder], tmp_path / "again", lease_s=60.0)
    assert not (tmp_path / "again").exists()
    assert factory.fill(job) == [1]
    assert publish_jobs([job.folder], tmp_path / "again", lease_s=60.0)["digest"] == expected
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_whole_batch_in_another_ones_place_is_found(factory: Factory, job: Job, tmp_path: Path) -> None:
    """Samples would be published twice, and others not at all, with every digest in order."""
    factory.fill(job)
    one, other = (job.store.file(batch.key) for batch in job.batches()[:2])
    for suffix in (".parquet", ".json"):
        one.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())

    with pytest.raises(CorruptFileError, match=r"Expected batch 0 of .* as it was kept"):
        publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)
    assert not (tmp_path / "out").exists()


def test_what_a_killed_publication_left_is_replaced(factory: Factory, job: Job, tmp_path: Path) -> None:
    """Half a shard of a killed run would be published beside the whole ones."""
    factory.fill(job)
    half = tmp_path / ".out.arriving" / "shards" / "crack-00000.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1")

    publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)

    assert verify(tmp_path / "out") == []
    assert not (tmp_path / ".out.arriving").exists()


def test_the_tables_lead_from_a_sample_to_what_it_was_made_from(factory: Factory, job: Job, tmp_path: Path) -> None:
    """An auditor's question would have no answer; test images are in no row but as such."""
    factory.fill(job)
    out, runs = tmp_path / "out", tmp_path / "runs"
    publish_jobs([job.folder], out, lease_s=60.0)
    publish_runs([job.folder], runs, lease_s=60.0)
    joined = f"""
        SELECT s.sample_id, b.split, b.role, m.role, n.kind, r.batch_key IS NOT NULL, len(n.sources)
        FROM '{out}/shards/*.parquet' s
        JOIN '{out}/sources.parquet' b ON b.sha256 = s.background_sha256 AND b.kind = 'image'
        JOIN '{out}/sources.parquet' m ON m.sha256 = s.mask_sha256 AND m.kind = 'mask'
        JOIN '{out}/checkpoints.parquet' n ON n.digest = s.checkpoint
        LEFT JOIN '{runs}/runs.parquet' r ON r.batch_key = s.batch_key
    """

    rows = duckdb.sql(joined).fetchall()

    assert sorted(row[0] for row in rows) == sorted(sample_ids(out))
    # trained by 5 normal images, 2 of 6 cracks and 1 of 3 spots with their masks
    assert {row[1:] for row in rows} == {("train", "background", "mask", "adapters", True, 5 + 2 * (2 + 1))}
    roles = duckdb.sql(f"SELECT split, role, count(*) FROM '{out}/sources.parquet' GROUP BY ALL ORDER BY ALL").fetchall()
    assert roles == [("test", "test", 2 + 2 * (4 + 2)), ("train", "background", 5), ("train", "mask", 3), ("train", "training", 3)]


def test_the_networks_say_what_their_base_began_with(tmp_path: Path) -> None:
    """Lineage and report would call a base that began with a shipped one a base from scratch."""
    factory = build(tmp_path)
    job, output, catalog = factory.job(tmp_path / "spool"), factory.data / "pretrain", read_catalog(factory.catalog)
    before = checkpoints(job, catalog)
    start = str(output / "base")
    write_pointer(output / "base", output, "scratch")
    note_start(output, start)

    after = checkpoints(job, catalog)

    digest = job.inputs["base"]
    for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
        assert json.loads(new["facts"]) == json.loads(old["facts"]) | {"start": start, "start_digest": digest}
        assert origin_in_words(json.loads(new["facts"])) == f"base, begun with {start} ({digest[:8]})"
        assert origin_in_words(json.loads(old["facts"])) == "base"


def test_who_made_it_stands_beside_the_samples(factory: Factory, job: Job, tmp_path: Path) -> None:
    """Equal samples of another machine would count as other ones; or nobody could say who made which."""
    factory.fill(job)
    publish_runs([job.folder], tmp_path / "runs", lease_s=60.0)

    assert sorted(pd.read_parquet(tmp_path / "runs" / "runs.parquet").batch_key) == sorted(batch.key for batch in job.batches())
    assert verify_runs(tmp_path / "runs") == []
    flip(tmp_path / "runs" / "runs.parquet")
    assert [problem.where for problem in verify_runs(tmp_path / "runs")] == ["runs.parquet"]
    (tmp_path / "runs" / "runs.parquet").unlink()
    assert "No such file" in verify_runs(tmp_path / "runs")[0].what


def test_the_folder_as_such_opens_with_datasets(factory: Factory, job: Job, tmp_path: Path) -> None:
    """`load_dataset` of the folder, or of its upload to a hub, would stop at the tables beside the shards."""
    factory.fill(job)
    publish_jobs([job.folder], tmp_path / "out, #1 (ü)", lease_s=60.0)

    loaded = load_dataset(str(tmp_path / "out, #1 (ü)"), cache_dir=str(tmp_path / "cache"))

    assert list(loaded["train"]["sample_id"]) == sample_ids(tmp_path / "out, #1 (ü)")
