"""What a segmenter misses on folds of the training part gets more samples, within a share, and nothing of the test decides anything."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from small_factory import CATEGORY, Factory, build

from flows import environment
from stage.core.errors import ConfigError, CorruptFileError, Refusal
from stage.core.params import Params, load_params
from stage.datasets.found import FILE, FoundDefect, read_errors, read_found, read_noted, use_errors, write_found
from stage.datasets.likeness import Likeness
from stage.datasets.table import read_catalog
from stage.datasets.windows import turn
from stage.jobs.job import Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.lineage.withdrawal import places_of
from stage.release.publication import publish_jobs
from stage.release.reader import read_samples, sample_rows
from stage.release.verification import verify
from stage.segmentation.arms import ArmChoice, Training
from stage.segmentation.counts import Counts
from stage.segmentation.misses import shares_found
from stage.synthesis.method import METHODS
from stage.synthesis.missed import missed_here, missed_types
from stage.synthesis.plan import backgrounds_of
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, NamedMask, PlanRow, missed_defect

SHARE = 0.6  # of six samples of a type: 3.6, so four more


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def catalog(factory: Factory) -> pd.DataFrame:
    return read_catalog(factory.catalog)


def real(catalog: pd.DataFrame, defect: str, split: str = "train") -> list[tuple[str, str]]:
    """Path and mask of the photographs of a type."""
    rows = catalog[(catalog.defect == defect) & (catalog.split == split) & (catalog.status == "accepted")]
    return list(rows[["image_path", "mask_sha256"]].itertuples(index=False, name=None))


def found(catalog: pd.DataFrame, split: str = "train", **shares: float) -> list[FoundDefect]:
    """All defects of these types, found to these shares."""
    return [
        FoundDefect(defect=defect, image_path=path, mask_sha256=mask, found=share)
        for defect, share in shares.items()
        for path, mask in real(catalog, defect, split)
    ]


def recipe_with(factory: Factory, told: list[FoundDefect], method: str = "paste", **changes: object) -> Recipe:
    recipe = factory.recipe(method, missed_share=SHARE, **changes)
    return recipe.model_copy(update={"missed": missed_types(told, read_catalog(factory.catalog), recipe.synthesize)})


def rows_of(factory: Factory, recipe: Recipe, defect: str, count: int = 10) -> list[PlanRow]:
    plan = METHODS[recipe.method].planner(recipe, read_catalog(factory.catalog), factory.source())
    return [plan(Identity(recipe.method, recipe.category, defect, k, 0)) for k in range(count)]


def job_of(recipe: Recipe, spool: Path) -> Job:
    return load_job(make_job(recipe, BatchStore(spool)))


def test_a_missed_type_gets_more_samples_within_the_share_and_no_other(factory: Factory, catalog: pd.DataFrame) -> None:
    """What is found already would get more, or a hard type would take over the data set."""
    cracks = found(catalog, crack=0.1)
    half = [cracks[0], *(one.model_copy(update={"found": 0.9}) for one in cracks[1:])]

    def extra(told: list[FoundDefect]) -> dict[str, int]:
        recipe = recipe_with(factory, told)
        return {defect: recipe.count_of(defect) - recipe.synthesize.count for defect in ("crack", "spot")}

    assert len(cracks) == 2
    assert extra([*cracks, *found(catalog, spot=0.6)]) == {"crack": 4, "spot": 0}
    assert extra(found(catalog, crack=0.1, spot=0.4)) == {"crack": 4, "spot": 4}
    assert extra(half) == {"crack": 2, "spot": 0}
    assert extra([]) == {"crack": 0, "spot": 0}


@pytest.mark.parametrize("method", [*METHODS])
def test_more_samples_are_of_the_missed_and_say_so(factory: Factory, catalog: pd.DataFrame, method: str) -> None:
    """Nobody could tell why there are more, or the segmenter would get more of what it finds."""
    (path, mask), *_ = cracks = real(catalog, "crack")
    told = [FoundDefect(defect="crack", image_path=one, mask_sha256=digest, found=0.0 if one == path else 1.0) for one, digest in cracks]
    recipe = recipe_with(factory, told, method, background="random", neighbours=1, count=4)
    (missed,) = recipe.missed
    assert (missed.extra, missed.photographs) == (1, (path,))
    wide = recipe.model_copy(update={"missed": (missed._replace(extra=4),)})

    before, now = (rows_of(factory, one, "crack") for one in (recipe.model_copy(update={"missed": ()}), wide))

    assert now[:4] + now[8:] == before[:4] + before[8:]
    mask_path = str(catalog.set_index("image_path").mask_path[path])
    told_of = {one and (one.image_path, one.mask_sha256) for one in (missed_defect(row.choices) for row in now[4:8])}
    assert told_of == {(path, mask)}
    assert all("missed" not in row.choices for row in before)
    if method in ("stage", "paste", "quilt"):
        assert {row.mask_sha256 for row in now[4:8]} == {mask}
    source, normals = factory.source(), backgrounds_of(catalog)
    likeness = Likeness(source.backgrounds[one.image_sha256].image for one in normals)
    for row in now[4:8]:
        [nearest] = likeness.nearest(*(turn(pixels, row.mask_turn) for pixels in source.masks[NamedMask(mask_path, mask)]), 1)
        assert row.background_sha256 == normals[nearest].image_sha256


def test_a_job_makes_and_publishes_them(factory: Factory, catalog: pd.DataFrame, tmp_path: Path) -> None:
    """They would be planned and dropped again, or the finished samples would be made a second time."""
    plain = factory.job(tmp_path / "spool", method="paste")
    factory.fill(plain)
    job = job_of(recipe_with(factory, found(catalog, crack=0.0)), tmp_path / "spool")

    assert len(factory.fill(job)) == 2  # crack has 10 rows in batches of four: the second batch gained rows, and the third is new
    publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)

    rows = [*sample_rows(tmp_path / "out", ["defect", "choices"])]
    assert [[row["defect"] for row in rows].count(defect) for defect in ("crack", "spot")] == [10, 6]
    assert sum("missed" in row["choices"] for row in rows) == 4
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("method", ["cutpaste", "paste"])
def test_a_fold_does_not_train_on_what_was_planned_for_its_defects(
    factory: Factory, catalog: pd.DataFrame, tmp_path: Path, method: str
) -> None:
    """The place of a held-out defect would be known to the arm that is judged on it, although the method takes no pixel of it."""
    job = job_of(recipe_with(factory, found(catalog, crack=0.0), method), tmp_path / "spool")
    factory.fill(job)
    publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)
    (out, mask), *_ = real(catalog, "crack")
    known = {*catalog.image_sha256, *catalog.mask_sha256} - {mask}

    rows = [*sample_rows(tmp_path / "out", ["mask_sha256", "choices"])]
    planned = [missed_defect(row["choices"]) for row in rows]
    is_out = [row["mask_sha256"] == mask or (one is not None and one.image_path == out) for row, one in zip(rows, planned, strict=True)]

    assert any(one is not None and one.image_path == out for one in planned)
    assert len(read_samples(tmp_path / "out", accepted_only=False, sources=known)) == is_out.count(False) > 0


def test_the_same_file_gives_the_same_plan(factory: Factory, catalog: pd.DataFrame, tmp_path: Path) -> None:
    """A night that was killed would go on with other samples."""
    told = found(catalog, crack=0.2, spot=0.3)
    one, other = (job_of(recipe_with(factory, some), tmp_path) for some in (told, told[::-1]))

    assert one.folder == other.folder
    assert job_of(recipe_with(factory, found(catalog, crack=0.2)), tmp_path).folder != one.folder


def test_no_image_of_the_test_is_missed(factory: Factory, catalog: pd.DataFrame) -> None:
    """What the evaluation finds hard would be trained on, and every number would be too good."""
    tested = found(catalog, "test", crack=0.0, spot=0.0)
    assert len(tested) > 2
    assert missed_types(tested, catalog, recipe_with(factory, tested).synthesize) == ()

    mixed = recipe_with(factory, [*tested, *found(catalog, crack=0.0)])
    assert mixed.missed == recipe_with(factory, found(catalog, crack=0.0)).missed
    own = {path for path, _ in real(catalog, "crack")}
    assert {path for one in mixed.missed for path in one.photographs} == own


def test_a_photograph_with_another_mask_by_now_is_not_missed(factory: Factory, catalog: pd.DataFrame) -> None:
    """A corrected mask would count as missed by what was found of the wrong one."""
    stale = [one.model_copy(update={"mask_sha256": "0" * 64}) for one in found(catalog, crack=0.0)]

    assert recipe_with(factory, stale).missed == ()


def test_a_recalled_defect_is_drawn_no_more_and_keeps_its_place(factory: Factory, catalog: pd.DataFrame) -> None:
    """Who recalls it would get more samples of it, or every other sample anew."""
    told = found(catalog, crack=0.0)
    recipe = recipe_with(factory, told, mask_source="real")
    recipe = recipe.model_copy(update={"missed": (recipe.missed[0]._replace(extra=30),)})
    gone = told[0]
    less = catalog.assign(status=catalog.status.where(catalog.image_path != gone.image_path, "recalled"))

    assert missed_types(told, less, recipe.synthesize) == missed_types(told, catalog, recipe.synthesize)
    plans = [METHODS["paste"].planner(recipe, one, factory.source()) for one in (catalog, less)]
    identities = [Identity("paste", CATEGORY, "crack", k, 0) for k in range(6, 36)]
    before, after = ([plan(one) for one in identities] for plan in plans)

    assert gone.image_path not in {row.source_path for row in after}
    assert {row.source_path for row in before} == {one.image_path for one in told}
    assert [row for row in before if row.source_path != gone.image_path] == [
        new for row, new in zip(before, after, strict=True) if row.source_path != gone.image_path
    ]


@pytest.mark.parametrize("method", ["paste", "cutpaste"])
def test_a_recalled_background_changes_no_row_of_a_missed_defect_but_its_own(factory: Factory, catalog: pd.DataFrame, method: str) -> None:
    """Among the two most similar the next would move up, and rows that never saw the photograph would be made anew."""
    recipe = recipe_with(factory, found(catalog, crack=0.0), method, background="random", neighbours=2)
    recipe = recipe.model_copy(update={"missed": (recipe.missed[0]._replace(extra=20),)})
    before = rows_of(factory, recipe, "crack", 26)
    alone = recipe.model_copy(update={"synthesize": recipe.synthesize.model_copy(update={"neighbours": 1})})
    gone = rows_of(factory, alone, "crack", 26)[6].background_sha256  # the most similar, so that the second would move up
    less = catalog.assign(status=catalog.status.where(catalog.image_sha256 != gone, "recalled"))
    places = places_of(factory.catalog.parent, gone, recipe.synthesize)
    assert places_of(factory.catalog.parent, gone, recipe.synthesize.model_copy(update={"missed_share": 0.0})) == {}

    source = factory.source()._replace(recalled={key: frozenset({place}) for key, place in places.items()})
    plan = METHODS[method].planner(recipe, less, source)
    after = [plan(Identity(method, CATEGORY, "crack", k, 0)) for k in range(26)]

    assert gone not in {row.background_sha256 for row in after}
    kept = [(old, new) for old, new in zip(before, after, strict=True) if old.background_sha256 != gone]
    assert len(kept) > 10
    assert all(old == new for old, new in kept)


def counts(*shares: float) -> Counts:
    """Of images of 16 px with a defect of 10 px, of which these shares get a high score, and nothing else does."""

    def predicted(share: float) -> tuple[np.ndarray, np.ndarray]:
        mask = np.zeros((4, 4), np.uint8)
        mask.flat[:10] = 1
        scores = np.full(mask.shape, -5.0)
        scores.flat[: round(10 * share)] = 5.0
        return scores, mask

    return Counts.of(map(predicted, shares))


def test_each_defect_is_judged_by_the_training_without_it(tmp_path: Path) -> None:
    """A defect would be called found because the segmenter was trained on it, or by what samples did for another arm."""
    defects, groups = ["crack", "crack", "dent", "dent"], ["b", "a", "c", "d"]  # folds, by type and group: 1, 0, 0, 1
    told = {0: counts(0.2, 1.0), 1: counts(0.4, 0.9)}
    results = dict[Training, Path]()
    for name in ("real_only", "real_and_paste"):
        for fold in (-1, 0, 1):
            one = Training(ArmChoice(name), "efficientnet_lite0", 0, fold)
            results[one] = tmp_path / one.folder
            results[one].mkdir()
            (told[fold] if name == "real_only" and fold >= 0 else counts(0.0, 0.0)).write(results[one] / "defective.npz")

    assert shares_found(results, defects, groups, 2) == [0.4, 0.2, 1.0, 0.9]
    assert shares_found({one: place for one, place in results.items() if one.fold < 0}, defects, groups, 2) == []


def small(**changes: object) -> Params:
    """The demo's parameters, with folds and the factory's category."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    return params.model_copy(
        update={
            "categories": (CATEGORY,),
            "segment": params.segment.model_copy(update={"folds": 2}),
            "synthesize": params.synthesize.model_copy(update={"missed_share": SHARE, **changes}),
        }
    )


def test_a_person_makes_them_the_projects(factory: Factory, catalog: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What segmenters miss could only be used by a night."""
    told = found(catalog, crack=0.1, spot=0.9)
    (tmp_path / "params.yaml").write_text((Path(__file__).parents[1] / "params/real-cpu.yaml").read_text().replace("bottle", CATEGORY))
    monkeypatch.chdir(tmp_path)
    categories = load_params().categories
    with pytest.raises(Refusal, match=r"Set segment.folds to 2 or more"):
        run("use-errors")
    write_found(told, tmp_path / "data/segment" / categories[0] / FILE.name)

    assert f"{categories[0]}: 2 of 3 real defects missed.\nerrors.json has them. synthesize.missed_share is 0" in run("use-errors").stdout
    assert read_errors()[categories[0]] == told
    write_found([], tmp_path / "data/segment" / categories[0] / FILE.name)  # as `segment` leaves it without folds
    with pytest.raises(Refusal, match=r"found none\. Set segment.folds to 2 or more"):
        run("use-errors")
    assert read_errors()[categories[0]] == told


def test_a_category_that_was_not_segmented_keeps_what_it_had(tmp_path: Path, catalog: pd.DataFrame) -> None:
    """On a new machine, a night would forget what was missed."""
    told, file = found(catalog, crack=0.1), tmp_path / FILE
    write_found(told, tmp_path / "segment/part" / FILE.name)

    assert use_errors(tmp_path, ["part", "bolt"], file) == {"part": told}
    stamp = file.stat().st_mtime_ns
    assert use_errors(tmp_path / "elsewhere", ["part"], file) == {"part": told}
    assert file.stat().st_mtime_ns == stamp  # nothing is new, so nothing is written
    assert use_errors(tmp_path, ["bolt"], file) == {}


def test_off_no_plan_reads_the_file(factory: Factory, catalog: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lies there would change the data of someone who asked for nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(factory.data)
    FILE.write_text(json.dumps({CATEGORY: [one.model_dump() for one in found(catalog, crack=0.0)]}))
    noted = list[list[FoundDefect]]()
    for share in (0.0, SHARE):
        environment.note_found(small(missed_share=share))
        noted.append(read_noted(Path("data"), CATEGORY))

    assert noted == [[], found(catalog, crack=0.0)]
    assert missed_here(Path("data"), CATEGORY, small(missed_share=0.0).synthesize) == ()
    assert [one.defect for one in missed_here(Path("data"), CATEGORY, small().synthesize)] == ["crack"]


def test_a_damaged_file_is_answered_with_the_command(tmp_path: Path) -> None:
    """A night would plan as if nothing were missed, or end in a stack trace."""
    (tmp_path / FILE).write_text('[{"defect": "crack"}]')

    with pytest.raises(ConfigError, match=r"git checkout"):
        read_errors(tmp_path / FILE)
    with pytest.raises(CorruptFileError, match=r"dvc repro"):
        read_found(tmp_path / FILE)


def test_without_folds_nothing_is_known_to_be_missed(tmp_path: Path) -> None:
    """Who turns it on would wait for more samples that never come."""
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("missed_share: 0.0", "missed_share: 0.25"))

    with pytest.raises(ConfigError, match=r"Set segment.folds to 2 or more"):
        load_params(tmp_path / "params.yaml")
