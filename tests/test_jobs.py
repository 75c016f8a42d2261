"""Jobs: what decides a sample decides its batch's key, nothing else does, and no job goes on over other inputs."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_factory import Factory, build, verdict

from stage.chaos.miniature import DEFECTS
from stage.core.durable import write_sealed
from stage.core.errors import ConfigError, CorruptFileError
from stage.jobs.inputs import deciding
from stage.jobs.job import Job, load_job
from stage.jobs.plan_table import batch_key


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def keys(job: Job) -> list[str]:
    return [batch.key for batch in job.batches()]


def test_the_same_inputs_are_the_same_job(factory: Factory, spool: Path) -> None:
    """A run after a kill would begin again."""
    first = factory.job(spool)
    written = (first.folder / "job.json").stat().st_mtime_ns

    again = factory.job(spool)

    assert again.folder == first.folder
    assert (again.folder / "job.json").stat().st_mtime_ns == written


def test_all_batches_are_whole_and_a_slot_is_the_ordinal_modulo_the_batch(factory: Factory, spool: Path) -> None:
    """A sample's last bits depend on its slot and on the batch's shape."""
    job = factory.job(spool, count=6, batch=4)

    rows = [job.rows(number) for number in range(4)]

    assert [[row.ordinal for row in batch] for batch in rows] == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
    assert [{row.defect for row in batch} for batch in rows] == [{"crack"}, {"crack"}, {"spot"}, {"spot"}]


def test_more_samples_are_only_new_batches(factory: Factory, spool: Path) -> None:
    """Raising 500 to 600 samples would render 600."""
    few, more = (keys(factory.job(spool, count=count, batch=4)) for count in (6, 9))

    assert len(set(few)) == 2 * len(DEFECTS)
    assert set(few) < set(more)
    assert len(set(more) - set(few)) == len(DEFECTS)


@pytest.mark.parametrize("changes", [{"count": 8}, {"count": 5}, {"shard_rows": 3}])
def test_how_many_are_published_and_in_which_files_makes_nothing_again(factory: Factory, spool: Path, changes: dict[str, int]) -> None:
    """The last batch of every defect type would be rendered again with each change of the number of samples."""
    assert keys(factory.job(spool, **changes)) == keys(factory.job(spool))


@pytest.mark.parametrize("changes", [{"steps": 5}, {"verdict": verdict(0.5)}, {"clamp": False}, {"known_region": "fresh"}, {"batch": 5}])
def test_a_changed_parameter_makes_every_batch_again(factory: Factory, spool: Path, changes: dict[str, object]) -> None:
    """Samples of two settings would lie side by side in one data set."""
    assert not {*keys(factory.job(spool))} & {*keys(factory.job(spool, **changes))}


@pytest.mark.parametrize(
    ("section", "change"), [("evaluate", {"gallery": 3}), ("execution", {"threads": 1}), ("segment", {"iterations": 9})]
)
def test_a_parameter_that_touches_no_sample_makes_nothing_again(
    factory: Factory, spool: Path, section: str, change: dict[str, int]
) -> None:
    """A larger gallery, or another number of threads, would cost a night."""
    changed = factory.params.model_copy(update={section: getattr(factory.params, section).model_copy(update=change)})

    assert factory.job(spool, changed).folder == factory.job(spool).folder


@pytest.mark.parametrize(
    ("section", "change", "method"), [("paste", {"ring": 4}, "paste"), ("method", {"alignment_threshold": 100}, "stage")]
)
def test_a_parameter_of_one_method_makes_nothing_of_the_others_again(
    factory: Factory, spool: Path, section: str, change: dict[str, int], method: str
) -> None:
    """Another width of the pasted seam would cost a night of the network's samples, or none of the pasted ones be made by it."""
    changed = factory.params.model_copy(update={section: getattr(factory.params, section).model_copy(update=change)})
    is_same = {each: keys(factory.job(spool, changed, method=each)) == keys(factory.job(spool, method=each)) for each in ("stage", "paste")}

    assert is_same == {"stage": method != "stage", "paste": method != "paste"}


def test_what_paste_does_decides_samples_that_begin_with_its_own(factory: Factory, spool: Path) -> None:
    """Another seam would stay that of the old samples, and the plan would say otherwise."""
    begun = factory.params.model_copy(update={"synthesize": factory.params.synthesize.model_copy(update={"start": "defect"})})
    changed = begun.model_copy(update={"paste": begun.paste.model_copy(update={"ring": 4})})

    assert keys(factory.job(spool, changed, method="stage")) != keys(factory.job(spool, begun, method="stage"))


def test_a_parameter_of_the_plan_makes_again_the_batches_whose_rows_it_changed(factory: Factory, spool: Path) -> None:
    """All would be made again for the few masks that another placement moves, or none."""
    turned, real = factory.job(spool, count=40, batch=1), factory.job(spool, count=40, batch=1, mask_source="real")

    same = [turned.rows(number) == real.rows(number) for number in range(80)]

    assert [one == other for one, other in zip(keys(turned), keys(real), strict=True)] == same
    assert not all(same)


def test_a_key_is_of_the_rows_the_photographs_and_the_inputs(factory: Factory, spool: Path) -> None:
    """A batch would be taken up that shows another photograph, or was made by other code."""
    job = factory.job(spool)
    rows, inputs = job.rows(0), deciding(job.inputs)
    pixels = {row.background_sha256: "0" for row in rows}
    first = rows[0].background_sha256

    found = [
        batch_key(rows, pixels, inputs),
        batch_key([*rows[1:], rows[0]], pixels, inputs),
        batch_key(rows, {**pixels, first: "1"}, inputs),
        *(batch_key(rows, pixels, {**inputs, name: "?"}) for name in ("code", "checkpoint", "base", "versions", "device", "precision")),
    ]

    assert len({*found}) == len(found)
    assert batch_key(rows, {**pixels, "another": "1"}, inputs) == found[0]


@pytest.fixture
def own(tmp_path: Path) -> Factory:
    """A factory that a test may change."""
    return build(tmp_path / "own")


def test_a_job_does_not_go_on_over_another_checkpoint(own: Factory, spool: Path) -> None:
    """Half of the samples would come from one network, half from another."""
    job = own.job(spool)
    job.check("cpu")
    weights = own.data / "train" / "part" / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")

    with pytest.raises(ConfigError, match=r"found 1 changed: checkpoint: \w{64}, now \w{64}\. Run `dvc repro synthesize`"):
        job.check("cpu")


def test_a_job_names_every_difference(own: Factory, spool: Path) -> None:
    """One would be corrected after the other, each after another wait."""
    job = own.job(spool)
    own.catalog.write_bytes(own.catalog.read_bytes() + b"\0")
    config = own.data / "pretrain" / "base" / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")

    with pytest.raises(ConfigError, match=r"found 2 changed: base: .*; catalog: .*"):
        job.check("cpu")


@pytest.mark.parametrize("name", ["plan.parquet", "batches.parquet"])
def test_a_changed_file_of_a_job_is_found(factory: Factory, spool: Path, name: str) -> None:
    """Workers would make what nobody planned."""
    file = factory.job(spool).folder / name
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(CorruptFileError, match=rf"Expected {name} as it was written, .* Run `dvc repro synthesize`"):
        load_job(file.parent)


def test_a_changed_job_is_found(factory: Factory, spool: Path) -> None:
    """A parameter corrected by hand in the spool would give samples that no parameters describe."""
    folder = factory.job(spool).folder
    whole = (folder / "job.json").read_text()
    (folder / "job.json").write_text(whole.replace('"category": "part"', '"category": "pert"'))
    with pytest.raises(CorruptFileError, match=r"job\.json as it was written, found a seal that does not fit it"):
        load_job(folder)
    facts = {name: value for name, value in json.loads(whole).items() if name != "seal"}
    facts["inputs"]["synthesize.steps"] = "7"
    write_sealed(facts, folder / "job.json")
    with pytest.raises(CorruptFileError, match=r"job\.json .* inputs of another job"):
        load_job(folder)
    (folder / "job.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"job\.json as it was written"):
        load_job(folder)
    with pytest.raises(CorruptFileError, match=r"Expected a job with its job\.json in .*, found none"):
        load_job(folder.parent)


@pytest.mark.parametrize("name", ["plan.parquet", "batches.parquet", "job.json"])
def test_a_spoiled_job_is_planned_again(factory: Factory, spool: Path, name: str) -> None:
    """A kill in the middle of a removal, or a lost bit, would stop the category until someone removes the folder by hand."""
    job = factory.job(spool)
    whole = {path.name: path.read_bytes() for path in job.folder.iterdir()}
    (job.folder / name).unlink()
    (job.folder / "claims").mkdir()

    assert factory.job(spool).folder == job.folder
    assert {path.name: path.read_bytes() for path in job.folder.iterdir()} == whole
    assert [*(spool / "jobs").iterdir()] == [job.folder]


def test_a_job_knows_where_its_inputs_have_moved(own: Factory, spool: Path) -> None:
    """A base that was trained and one from a folder may be the same: the job would look for the one that is gone."""
    job = own.job(spool)
    own.data.rename(own.data.with_name("elsewhere"))
    moved = own._replace(data=own.data.with_name("elsewhere")).job(spool)

    assert moved.folder == job.folder
    moved.check("cpu")


def test_of_several_that_plan_at_once_one_job_is_left(factory: Factory, spool: Path) -> None:
    """Two runs that start together would tear each other's plan apart."""
    with ThreadPoolExecutor(4) as pool:
        folders = {job.folder for job in pool.map(lambda _: factory.job(spool), range(4))}

    assert [*(spool / "jobs").iterdir()] == [*folders]


def test_a_job_says_what_is_left(factory: Factory, spool: Path) -> None:
    """A worker would render what is there, or leave out what is not."""
    job = factory.job(spool)
    factory.fill(job, [2])

    assert [batch.number for batch in job.left()] == [0, 1, 3]
    assert job.left() == job.unfinished()
