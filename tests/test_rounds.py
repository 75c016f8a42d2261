"""Rounds: what the verdict rejects is tried again, as often as asked for and no more, and what was rejected stays on record."""

import os
import shutil
import signal
from collections.abc import Sequence
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_factory import Factory, build

from stage.jobs.gc import remove_garbage
from stage.jobs.job import Job, load_job
from stage.jobs.planning import rejected_by, rounds
from stage.jobs.worker import drain
from stage.release.publication import publish_jobs, publish_runs
from stage.release.verification import verify
from stage.synthesis.rows import Identity

PROCESSES = get_context("fork")  # everything is imported here
ATTEMPTS = 3
SELECTIVE = {"attempts": ATTEMPTS, "count": 10}  # with a threshold between the margins of the samples


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def threshold(factory: Factory, tmp_path_factory: pytest.TempPathFactory) -> float:
    """A margin that two thirds of the first round's samples do not have."""
    job = factory.strict_job(tmp_path_factory.mktemp("looked at") / "spool", 0.0, **SELECTIVE)
    factory.fill(job)
    margins = [value for batch in job.batches() for value in job.read(batch)["margin"].to_pylist()]
    return round(float(pd.Series(margins).quantile(2 / 3)), 3)


@pytest.fixture(scope="module")
def made(factory: Factory, threshold: float, tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Every round of a job whose verdict accepts some."""
    return factory.fill_rounds(factory.strict_job(tmp_path_factory.mktemp("made") / "spool", threshold, **SELECTIVE))


def samples(out: Path) -> pd.DataFrame:
    """All published rows without their pictures, in the order of the shards."""
    told = [pd.read_parquet(path).drop(columns=["image", "mask"]) for path in sorted((out / "shards").iterdir())]
    return pd.concat(told, ignore_index=True)


def planned(job: Job) -> list[list[Any]]:
    return [job.rows(batch.number) for batch in job.batches()]


def identities(job: Job) -> list[Identity]:
    return [row.identity for batch in planned(job) for row in batch]


def again(some: Sequence[Identity]) -> list[Identity]:
    return [one._replace(attempt=one.attempt + 1) for one in some]


def test_what_was_rejected_is_planned_again_with_the_next_attempt_and_nothing_else(made: list[Job]) -> None:
    """A rejected sample would be lost, an accepted one be made twice, or the second try be the first one over again."""
    assert len(made) == ATTEMPTS
    for before, after in pairwise(made):
        rejected = rejected_by(before)
        assert 0 < len(rejected) < len(identities(before))
        assert identities(after) == again(rejected)
        assert [one.ordinal for one in rejected if one.ordinal >= 10] == []
    seeds = [row.seed for job in made for batch in planned(job) for row in batch]
    assert len({*seeds}) == len(seeds)


def test_a_batch_of_a_later_round_holds_one_defect_type_and_no_more_rows_than_a_batch(made: list[Job]) -> None:
    """The network would be given the prompt of another defect, or more rows than a GPU holds."""
    for job in made[1:]:
        assert all(len({row.defect for row in batch}) == 1 and len(batch) <= 4 for batch in planned(job))


@pytest.mark.parametrize("attempts", [1, 3])
def test_nothing_is_tried_more_often_than_asked_for(factory: Factory, tmp_path: Path, attempts: int) -> None:
    """A defect type that its method cannot make would be tried for ever, or never a second time."""
    jobs = factory.fill_rounds(factory.strict_job(tmp_path / "spool", 10.0, attempts=attempts))

    assert [{one.attempt for one in identities(job)} for job in jobs] == [{attempt} for attempt in range(attempts)]
    assert [sum(job.samples_in(batch.number) for batch in job.batches()) for job in jobs] == [12] * attempts


def test_where_all_are_accepted_there_is_one_round(factory: Factory, tmp_path: Path) -> None:
    """Every run would end with a job of nothing."""
    assert len(factory.fill_rounds(factory.job(tmp_path / "spool", attempts=ATTEMPTS))) == 1


def test_the_rejected_stay_beside_their_later_attempts_with_their_reasons(made: list[Job], tmp_path: Path) -> None:
    """Nobody could say how often a method fails, or why: published would be only what went well."""
    manifest = publish_jobs([job.folder for job in made], tmp_path / "out", lease_s=60.0)

    assert verify(tmp_path / "out") == []
    rows = samples(tmp_path / "out")
    assert len(rows) == manifest["count"] == 20 + sum(len(rejected_by(job)) for job in made[:-1])
    assert manifest["rejected"] == (rows.verdict == "rejected").sum() == sum(len(rejected_by(job)) for job in made)
    order = list(zip(rows.defect, rows.ordinal, rows.attempt, strict=True))
    assert order == sorted(order)
    for _, tries in rows.groupby(["defect", "ordinal"]):
        assert tries.attempt.tolist() == list(range(len(tries)))
        assert (tries.verdict[:-1] == "rejected").all()
        assert tries.verdict.iloc[-1] == "accepted" or len(tries) == ATTEMPTS
    normal = rows[rows.margin < 0]
    assert (normal.verdict == "rejected").all()
    assert normal.reason.str.startswith("looks normal: ").all()
    assert len(normal) == manifest["rejected"]


def test_the_plan_and_the_runs_are_of_all_rounds(made: list[Job], tmp_path: Path) -> None:
    """A second attempt would have no plan to be checked against, and nobody who made it."""
    publish_jobs([job.folder for job in made], tmp_path / "out", lease_s=60.0)
    publish_runs([job.folder for job in made], tmp_path / "runs", lease_s=60.0)
    rows, plan = samples(tmp_path / "out"), pd.read_parquet(tmp_path / "out" / "plan.parquet")
    runs = pd.read_parquet(tmp_path / "runs" / "runs.parquet")

    assert plan.sample_id.tolist() == rows.sample_id.tolist()
    assert {*rows.batch_key} == {*runs.batch_key}


def test_the_next_plan_is_the_same_for_any_order_of_the_first_one_s_batches(
    factory: Factory, made: list[Job], threshold: float, tmp_path: Path
) -> None:
    """A data set would depend on who was first: another order of what was rejected makes other batches."""
    first = factory.strict_job(tmp_path / "spool", threshold, **dict(made[0].recipe.synthesize))
    for number in (5, 3, 3, 1, 0, 2, 4):  # one of them a second time
        factory.fill(first, [number])

    assert plan_after(first) == plan_after(made[0])


def test_the_next_plan_is_the_same_for_any_number_of_workers(factory: Factory, made: list[Job], threshold: float, tmp_path: Path) -> None:
    """A second GPU, or a worker that died, would give other samples than one worker alone."""
    first = factory.strict_job(tmp_path / "spool", threshold, **dict(made[0].recipe.synthesize))
    victim = PROCESSES.Process(target=work, args=(first.folder, "after_write:2"))
    victim.start()
    victim.join(120)
    work(first.folder)

    assert victim.exitcode == -signal.SIGKILL
    assert len({first.store.maker(batch.key)["pid"] for batch in first.batches()}) == 2
    assert plan_after(first) == plan_after(made[0])


def work(folder: Path, fault: str = "") -> None:
    """One worker, to its end or its fault."""
    os.environ["STAGE_FAULT"] = fault
    drain(folder, device="cpu", lease_s=60.0, max_failures=3)


def plan_after(first: Job) -> tuple[str, dict[str, bytes]]:
    """The second round's job and its tables, once the first one is made."""
    _, folder = islice(rounds(first.folder), 2)
    return folder.name, {name: (folder / name).read_bytes() for name in ("plan.parquet", "batches.parquet")}


def test_more_samples_keep_what_every_round_has_made(factory: Factory, made: list[Job], threshold: float, tmp_path: Path) -> None:
    """Raising the count would cost all second attempts again; only the last batch of a defect type may have room for more."""
    shutil.copytree(made[0].store.root, tmp_path / "spool")
    more = factory.fill_rounds(factory.strict_job(tmp_path / "spool", threshold, **dict(made[0].recipe.synthesize) | {"count": 14}))

    assert {batch.key for batch in made[0].batches()} < {batch.key for batch in more[0].batches()}
    for few, many in zip(made[1:], more[1:], strict=True):
        whole = {batch.key for batch in few.batches() if len(few.rows(batch.number)) == 4}
        assert whole <= {batch.key for batch in many.batches()}
        assert set(identities(few)) < set(identities(many))
    assert any(len(batch) == 4 for batch in planned(made[1]))


def test_the_garbage_collection_keeps_every_round(factory: Factory, made: list[Job]) -> None:
    """What a later round has made would be taken for nobody's, and the next run make it again."""
    params = factory.params.model_copy(update={"synthesize": made[0].recipe.synthesize})

    assert remove_garbage(made[0].store, [params], lease_s=60.0, dry_run=True) == []


def test_a_round_that_was_killed_goes_on_where_it_was(factory: Factory, made: list[Job], tmp_path: Path) -> None:
    """A night's second round would begin again, or be left out: the same command finds it by what the first one rejected."""
    shutil.copytree(made[0].store.root, tmp_path / "spool")
    first, second = (load_job(tmp_path / "spool" / "jobs" / job.folder.name) for job in made[:2])
    for batch in second.batches()[1:]:
        second.store.drop(batch.key)
    kept = second.store.file(second.batches()[0].key).stat().st_mtime_ns

    jobs = []
    for folder in rounds(first.folder):
        jobs.append(folder.name)
        work(folder)

    assert jobs == [job.folder.name for job in made]
    assert second.store.file(second.batches()[0].key).stat().st_mtime_ns == kept
    assert second.unfinished() == []
