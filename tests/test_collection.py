"""Garbage collection: what nobody wants goes, what somebody wants stays, and nothing goes unasked."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from small_factory import Factory, build
from source_tree import ROOT

from flows.pretrain import train_from_scratch
from flows.train import fine_tune
from stage.ablation.configurations import CONFIGURATIONS, load_configurations, wanted_today
from stage.core.errors import ConfigError
from stage.core.params import Params, load_params
from stage.core.work import Work
from stage.jobs.claims import Owner, take
from stage.jobs.gc import CHANGED, ORPHANED, UNPLANNED, remove_garbage, sums
from stage.jobs.heartbeat import present
from stage.jobs.job import Job
from stage.jobs.store import BatchStore
from stage.jobs.unused import ELSEWHERE, LEFT_BEHIND, REPLACED, Garbage
from stage.model.base_pointer import write_pointer
from stage.release.publication import publish_jobs


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def spool(tmp_path: Path) -> BatchStore:
    return BatchStore(tmp_path / "spool")


def collected(spool: BatchStore, factory: Factory, *, dry_run: bool = False, **changes: object) -> list[Garbage]:
    """With the factory's parameters, some of `synthesize` changed."""
    params = factory.params.model_copy(update={"synthesize": factory.params.synthesize.model_copy(update=changes)})
    return remove_garbage(spool, [params], lease_s=60.0, dry_run=dry_run)


def names(spool: BatchStore) -> set[str]:
    return {path.relative_to(spool.root).as_posix() for path in spool.root.rglob("*") if path.is_file()}


def full(spool: BatchStore, factory: Factory, **changes: object) -> Job:
    job = factory.job(spool.root, **changes)
    factory.fill(job)
    return job


def test_nothing_is_collected_of_what_is_wanted(factory: Factory, spool: BatchStore) -> None:
    """A finished night would be made again."""
    full(spool, factory)
    before = names(spool)

    assert collected(spool, factory) == []
    assert names(spool) == before


def test_after_fewer_samples_no_batch_of_the_many_is_left(factory: Factory, spool: BatchStore, tmp_path: Path) -> None:
    """The spool would grow with every change of `count`; what the new job shares with the old one stays."""
    old, new = full(spool, factory, count=8), full(spool, factory, count=3)
    orphans = {batch.key for batch in old.batches()} - {batch.key for batch in new.batches()}

    garbage = collected(spool, factory, count=3)

    assert len(orphans) == 2
    assert {item.path.stem for item in garbage} == {old.folder.name, *orphans}
    assert not old.folder.exists()
    assert {Path(name).stem for name in names(spool) if name.startswith("batches/")} == {batch.key for batch in new.batches()}
    assert publish_jobs([new.folder], tmp_path / "out", lease_s=60.0)["count"] == 6


def test_a_dry_run_says_the_same_and_removes_nothing(factory: Factory, spool: BatchStore) -> None:
    """Someone who only wants to know would lose a night's work."""
    full(spool, factory, steps=2)
    full(spool, factory)
    before, weight = names(spool), sum((spool.root / name).stat().st_size for name in names(spool))

    told = collected(spool, factory, dry_run=True)

    assert names(spool) == before
    assert told == collected(spool, factory)
    assert [(total.why, total.pieces) for total in sums(told)] == [(UNPLANNED, 1), (ORPHANED, 4)]
    assert sum(total.size for total in sums(told)) == weight - sum((spool.root / name).stat().st_size for name in names(spool))


def test_a_job_over_inputs_that_are_gone_is_collected_with_the_difference(spool: BatchStore, tmp_path: Path) -> None:
    """Batches of a network that was trained anew would be kept for ever."""
    own = build(tmp_path / "own")
    job = full(spool, own)
    weights = own.data / "train" / "part" / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")

    garbage = collected(spool, own)

    assert garbage[0].path == job.folder
    assert garbage[0].why == CHANGED
    assert "found 1 changed: checkpoint:" in garbage[0].detail
    assert names(spool) == set()


def test_a_job_that_someone_works_on_is_left_alone(factory: Factory, spool: BatchStore) -> None:
    """A worker would be robbed of the plan it reads."""
    job = full(spool, factory, steps=2)
    claim, _ = take(job.claim(0), Owner.here(), lease_s=60.0)
    assert claim is not None

    assert collected(spool, factory) == []
    claim.release()
    with present(job.folder, lease_s=60.0):
        assert collected(spool, factory) == []
    assert {item.path for item in collected(spool, factory)} == {job.folder, *(spool.file(batch.key) for batch in job.batches())}


class Meanwhile(Sequence[Params]):
    """The factory's parameters, while which are read something else happens, once."""

    def __init__(self, factory: Factory, happens: Callable[[], object]) -> None:
        self.values, self.happens = [factory.params], cache(happens)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        self.happens()
        return self.values[index]


def test_a_job_on_which_someone_begins_while_one_looks_is_left_alone(factory: Factory, spool: BatchStore) -> None:
    """To look at many jobs takes minutes, and a worker that began meanwhile would be robbed of its plan and of what it has made."""
    job = full(spool, factory, steps=2)
    before = names(spool)

    garbage = remove_garbage(spool, Meanwhile(factory, lambda: take(job.claim(0), Owner.here(), lease_s=60.0)), lease_s=60.0, dry_run=False)

    assert garbage == []
    assert before < names(spool)


def test_what_is_planned_and_made_while_one_looks_is_kept(factory: Factory, spool: BatchStore) -> None:
    """A run that began during the collection would find its first batches gone again."""
    old = full(spool, factory, steps=2)

    garbage = remove_garbage(spool, Meanwhile(factory, lambda: full(spool, factory)), lease_s=60.0, dry_run=False)

    assert {item.path for item in garbage} == {old.folder, *(spool.file(batch.key) for batch in old.batches())}
    assert factory.job(spool.root).unfinished() == []


def test_batches_that_a_job_uses_which_is_planned_during_the_sweep_are_kept(
    factory: Factory, spool: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would count batches as finished, and find them gone when it publishes."""
    old = full(spool, factory)
    shutil.rmtree(old.folder)  # its batches stay, and no job uses them
    hide, planned = BatchStore.hide, list[Job]()

    def hide_after_a_job_is_planned(store: BatchStore, key: str) -> Any:
        planned[len(planned) :] = [] if planned else [factory.job(spool.root)]
        return hide(store, key)

    monkeypatch.setattr(BatchStore, "hide", hide_after_a_job_is_planned)

    assert collected(spool, factory) == []
    assert planned[0].unfinished() == []
    assert not [*(spool.root / "batches").glob("*/.*")]


def test_a_batch_that_is_made_again_while_it_is_hidden_stays(factory: Factory, spool: BatchStore) -> None:
    """What a worker has just made would be replaced by what a killed collection left, or be lost."""
    job = full(spool, factory)
    key = job.batches()[0].key
    hidden = spool.hide(key)
    assert not spool.is_there(key)
    factory.fill(job)
    made = spool.file(key).stat().st_ino

    for one in hidden:
        one.restore()

    assert spool.finished(key) == spool.file(key)
    assert spool.file(key).stat().st_ino == made
    assert not [*(spool.root / "batches").glob("*/.*")]


def works(spool: BatchStore) -> set[str]:
    return {path.parent.relative_to(spool.root).as_posix() for path in spool.root.rglob("state")}


def test_of_trainings_and_results_the_last_one_used_is_kept(factory: Factory, spool: BatchStore) -> None:
    """The spool would keep the weights of every parameter that was ever tried, and of every data set."""
    ages = {
        "pretrain/base/0000000000000001": 3,
        "pretrain/base/0000000000000002": 1,
        "train/part/0000000000000001": 1,
        "train/part/0000000000000002": 2,
        "segment/part/real_only/0000000000000001": 5,
        "segment/part/all-arms/0000000000000001": 5,
        "train/nut/0000000000000001": 1,
        "segment/nut/real_only/0000000000000001": 1,
    }
    for name, age in ages.items():
        (spool.root / name).mkdir(parents=True)
        (spool.root / name / "state").write_text("half")
        os.utime(spool.root / name, (time.time() - age, time.time() - age))

    with present(spool.root / "train/part/0000000000000002", lease_s=60.0):
        os.utime(spool.root / "train/part/0000000000000002", (0, 0))
        found = {item.path.relative_to(spool.root).as_posix(): item.why for item in collected(spool, factory)}

    assert found == {
        "pretrain/base/0000000000000001": REPLACED,
        "train/nut/0000000000000001": ELSEWHERE,
        "segment/nut/real_only/0000000000000001": ELSEWHERE,
    }
    assert works(spool) == {*ages} - {*found}


@pytest.mark.parametrize("verb", ["train", "pretrain"])
def test_a_training_is_kept_until_it_is_published(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stage gc` in another terminal would remove a night's work between its end and its publication."""
    factory = build(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_pointer(Path("data/pretrain/base"), Path("data/pretrain"), "scratch")
    params = factory.params.model_copy(
        update={
            "train": factory.params.train.model_copy(update={"iterations": 1, "batch": 2}),
            "pretrain": factory.params.pretrain.model_copy(
                update={"start": "none", "iterations": 1, "batch": 2, "widths": (16,), "text_width": 16}
            ),
        }
    )
    with ExitStack() as users:
        work = fine_tune.fn("part", params, users, verb="train") if verb == "train" else train_from_scratch.fn(params, users)
        os.utime(work.folder, (0, 0))
        Work.of(verb, work.folder.parent.name, "f" * 16)  # used later
        assert collected(BatchStore(Path(".spool")), factory) == []

    assert [one.path for one in collected(BatchStore(Path(".spool")), factory)] == [work.folder]


def test_a_damaged_job_is_collected(factory: Factory, spool: BatchStore) -> None:
    """It could not be read, and so never be removed."""
    job = factory.job(spool.root)
    (job.folder / "job.json").write_text(json.dumps({}))

    assert [item.path for item in collected(spool, factory)] == [job.folder]


def test_what_killed_processes_left_is_collected_once_it_is_old(factory: Factory, spool: BatchStore) -> None:
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


def test_a_job_of_a_category_that_params_do_not_have_is_collected(factory: Factory, spool: BatchStore) -> None:
    """After `stage use-data`, the spool of the old data would stay for ever."""
    job = factory.job(spool.root)
    other = factory.params.model_copy(update={"categories": ("other",)})

    assert [item.path for item in remove_garbage(spool, [other], lease_s=60.0, dry_run=True)] == [job.folder]


def test_a_removal_that_is_killed_leaves_no_half_job(factory: Factory, spool: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a job would be refused as damaged, and a run would stop at it; what is left goes with what killed processes leave."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    full(spool, factory, steps=2)
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        collected(spool, factory)
    monkeypatch.undo()

    assert not list((spool.root / "jobs").glob("[!.]*"))
    (left,) = (spool.root / "jobs").iterdir()
    os.utime(left, (0, 0))
    assert {item.why for item in collected(spool, factory)} == {LEFT_BEHIND, ORPHANED}
    assert names(spool) == set()


def test_what_vanishes_meanwhile_is_no_error(factory: Factory, spool: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who collect at once would stop each other half-way."""
    job = full(spool, factory, steps=2)
    look = os.walk

    def walk(place: Path) -> Iterator[Any]:
        found = list(look(place))
        shutil.rmtree(place)
        return iter(found)

    monkeypatch.setattr(os, "walk", walk)

    assert job.folder in {item.path for item in collected(spool, factory)}
    assert names(spool) == set()


@pytest.mark.parametrize("settings", [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))], ids=lambda path: path.name)
def test_every_named_setting_says_what_it_wants(settings: Path, tmp_path: Path) -> None:
    """`stage gc` would refuse to work wherever two configurations of an ablation that nobody asked for are the same."""
    params = load_params(settings)
    configurations = load_configurations(ROOT / CONFIGURATIONS)

    wanted = wanted_today(params, ROOT / CONFIGURATIONS)

    assert len(wanted) == 1 + len(configurations)
    assert wanted[0] == params
    assert {variant.name for variant in wanted} == {params.name, *(f"{params.name} {one.name}" for one in configurations if one.overrides)}
    assert wanted_today(params, tmp_path / "configurations.yaml") == [params]


def test_a_variant_that_cannot_be_made_today_wants_nothing(tmp_path: Path) -> None:
    """`stage gc` would refuse after `synthesize.steps: 10`, and point at a file that the user never touched."""
    params = load_params(ROOT / "params.yaml")
    few = params.model_copy(update={"synthesize": params.synthesize.model_copy(update={"steps": params.synthesize.jump_length})})

    assert few in wanted_today(few, ROOT / CONFIGURATIONS)
    (tmp_path / "configurations.yaml").write_text("- {name: a, label: a, overrides: {synthesize.stepz: 3}}")
    with pytest.raises(ConfigError, match=r"found 'synthesize\.stepz'"):  # a slip of the pen must cost no finished ablation
        wanted_today(params, tmp_path / "configurations.yaml")


def test_an_empty_spool_has_no_garbage(factory: Factory, spool: BatchStore) -> None:
    """`stage gc` before the first run would end in a traceback."""
    assert collected(spool, factory) == []
