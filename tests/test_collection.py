"""Garbage collection: what nobody wants goes, what somebody wants stays, and nothing goes unasked."""

import json
import os
import time
from pathlib import Path

import pytest
from small_factory import Factory, build

from stage.batches import Spool
from stage.claims import Owner, take
from stage.collection import Garbage, collect
from stage.jobs import Job
from stage.publication import publish_job


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def collected(spool: Spool, factory: Factory, *, dry_run: bool = False, **changes: object) -> list[Garbage]:
    """With the factory's parameters, some of `synthesize` changed."""
    params = factory.params.model_copy(update={"synthesize": factory.params.synthesize.model_copy(update=changes)})
    return collect(spool, [params], lease_s=60.0, dry_run=dry_run)


def names(spool: Spool) -> set[str]:
    return {path.relative_to(spool.root).as_posix() for path in spool.root.rglob("*") if path.is_file()}


def full(spool: Spool, factory: Factory, **changes: object) -> Job:
    job = factory.job(spool.root, **changes)
    factory.fill(job)
    return job


def test_nothing_is_collected_of_what_is_wanted(factory: Factory, spool: Spool) -> None:
    """A finished night would be made again."""
    full(spool, factory)
    before = names(spool)

    assert collected(spool, factory) == []
    assert names(spool) == before


def test_after_fewer_samples_no_batch_of_the_many_is_left(factory: Factory, spool: Spool, tmp_path: Path) -> None:
    """The spool would grow with every change of `count`; what the new job shares with the old one stays."""
    old, new = full(spool, factory, count=8), full(spool, factory, count=3)
    orphans = {batch.key for batch in old.batches()} - {batch.key for batch in new.batches()}

    garbage = collected(spool, factory, count=3)

    assert len(orphans) == 2
    assert {item.path.stem for item in garbage} == {old.folder.name, *orphans}
    assert not old.folder.exists()
    assert {Path(name).stem for name in names(spool) if name.startswith("batches/")} == {batch.key for batch in new.batches()}
    assert publish_job(new.folder, tmp_path / "out")["count"] == 6


def test_a_dry_run_says_the_same_and_removes_nothing(factory: Factory, spool: Spool) -> None:
    """Someone who only wants to know would lose a night's work."""
    full(spool, factory, steps=2)
    full(spool, factory)
    before = names(spool)

    told = collected(spool, factory, dry_run=True)

    assert names(spool) == before
    assert told == collected(spool, factory)
    assert len(told) == 1 + 4 * 3
    assert sum(item.size for item in told) > 0
    assert {item.why for item in told} == {"no parameters of today plan it", "no job that is kept has that batch"}


def test_a_job_over_inputs_that_are_gone_is_collected_with_the_difference(spool: Spool, tmp_path: Path) -> None:
    """Batches of a network that was trained anew would be kept for ever."""
    own = build(tmp_path / "own")
    job = full(spool, own)
    weights = own.data / "train" / "part" / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")

    garbage = collected(spool, own)

    assert garbage[0].path == job.folder
    assert "found 1 changed: checkpoint:" in garbage[0].why
    assert names(spool) == set()


def test_a_job_that_someone_works_on_is_left_alone(factory: Factory, spool: Spool) -> None:
    """A worker would be robbed of the plan it reads."""
    job = full(spool, factory, steps=2)
    claim, _ = take(job.claim(0), Owner.here(), lease_s=60.0)
    assert claim is not None

    assert collected(spool, factory) == []
    claim.release()
    assert len(collected(spool, factory)) == 1 + 4 * 3


def test_a_damaged_job_is_collected(factory: Factory, spool: Spool) -> None:
    """It could not be read, and so never be removed."""
    job = factory.job(spool.root)
    (job.folder / "job.json").write_text(json.dumps({}))

    assert [item.path for item in collected(spool, factory)] == [job.folder]


def test_what_killed_processes_left_is_collected_once_it_is_old(factory: Factory, spool: Spool) -> None:
    """A living worker's half-written batch would be torn from its hands, or a dead one's stay for ever."""
    full(spool, factory)
    left = [next((spool.root / "batches").iterdir()) / ".k.0.new", spool.root / "jobs" / ".part-k.0" / "plan.parquet"]
    left[1].parent.mkdir()
    for path in left:
        path.write_bytes(b"half")
    assert collected(spool, factory) == []

    past = time.time() - 7200
    for path in (left[0], left[1].parent):
        os.utime(path, (past, past))

    assert {item.path for item in collected(spool, factory)} == {left[0], left[1].parent}
    assert not any(path.exists() for path in left)


def test_an_empty_spool_has_no_garbage(factory: Factory, spool: Spool) -> None:
    """`stage gc` before the first run would end in a traceback."""
    assert collected(spool, factory) == []
