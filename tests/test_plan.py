"""The plan: what a sample is made from depends on its identity alone, and never on an image of the evaluation."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from miniatures import SIZE
from PIL import Image
from small_factory import CATEGORY, Factory, build, make_plan, verdict

from stage.core.errors import CorruptFileError
from stage.core.model_params import Prompts
from stage.core.synthesis_params import Synthesize
from stage.datasets.table import read_catalog
from stage.synthesis.method import METHODS
from stage.synthesis.placement import is_on, sample_mask
from stage.synthesis.plan import DefectSource, defect_of
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.shapes import NEW
from stage.synthesis.source import Source, read_source
from stage.synthesis.strokes import DRAWN
from stage.synthesis.transplant import placed


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def catalog(factory: Factory) -> pd.DataFrame:
    return read_catalog(factory.catalog)


def plan(factory: Factory, catalog: pd.DataFrame, *, root_seed: int = 7, **changes: object) -> list[PlanRow]:
    params = factory.params.synthesize.model_copy(update=changes)
    return make_plan(catalog, params, factory.params.base.prompts, source=factory.source(), settings="test", root_seed=root_seed)


def by_id(rows: list[PlanRow]) -> dict[str, PlanRow]:
    return {row.sample_id: row for row in rows}


def test_the_same_inputs_give_the_same_rows(factory: Factory, catalog: pd.DataFrame) -> None:
    """A repeated run would make other samples."""
    assert plan(factory, catalog) == plan(factory, catalog)


def test_a_seed_is_the_digest_of_the_identity(factory: Factory, catalog: pd.DataFrame) -> None:
    """A seed that depended on a shard, a worker or the time could not be found again from a sample's name."""
    for row in plan(factory, catalog):
        digest = hashlib.blake2b(f"7|stage|part|{row.defect}|{row.ordinal}|0".encode(), digest_size=8).digest()
        assert row.seed == int.from_bytes(digest, "big") // 2 < 2**63


def test_every_real_defect_has_its_turn_and_each_method_takes_the_same() -> None:
    """Of 33 real blowholes eight were in no sample, and one method showed the largest frayed edge twice as often as the other."""
    some = [DefectSource(f"{k}.png", "", "", "") for k in range(5)]

    def drawn(pool: list[DefectSource | None], method: str, ordinal: int, **changes: Any) -> DefectSource:
        return defect_of(pool, Identity(method, "part", "crack", ordinal, 0), 7, **changes)

    first = [drawn([*some], "stage", ordinal) for ordinal in range(20)]

    assert all(sorted(first[start : start + 5]) == some for start in range(0, 20, 5))
    assert len({tuple(first[start : start + 5]) for start in range(0, 20, 5)}) > 1, "each run has an order of its own"
    assert [drawn([*some], "paste", ordinal) for ordinal in range(20)] == first
    assert [drawn([*some], "quilt", ordinal, use="appearance") for ordinal in range(20)] != first
    left = [drawn([None, *some[1:]], "stage", ordinal) for ordinal in range(20)]
    assert [one for one, before in zip(left, first, strict=True) if before != some[0]] == [one for one in first if one != some[0]]
    assert some[0] not in left


def test_another_root_seed_or_category_has_other_seeds(factory: Factory, catalog: pd.DataFrame) -> None:
    """Two datasets would hold the same defects."""
    plans = [plan(factory, catalog), plan(factory, catalog, root_seed=8), plan(factory, catalog.assign(category="bolt"))]

    assert len({row.seed for rows in plans for row in rows}) == 3 * 12


def test_there_are_count_rows_of_each_type_with_names_of_their_own(factory: Factory, catalog: pd.DataFrame) -> None:
    """Samples would be missing, or overwrite each other."""
    rows = plan(factory, catalog, count=4)

    assert [(row.defect, row.ordinal) for row in rows] == [(defect, k) for defect in ("crack", "spot") for k in range(4)]
    assert len({row.sample_id for row in rows}) == len({row.seed for row in rows}) == 8


@pytest.mark.parametrize("count", [1, 7, 600])
def test_a_row_is_the_same_for_any_count(factory: Factory, catalog: pd.DataFrame, count: int) -> None:
    """Asking for more samples would change those that are there."""
    few, many = sorted([plan(factory, catalog), plan(factory, catalog, count=count)], key=len)

    assert by_id(few).items() <= by_id(many).items()


def test_another_defect_type_changes_no_row_of_the_others(factory: Factory, catalog: pd.DataFrame) -> None:
    """A new defect type would make every other dataset anew."""
    added = catalog[catalog.defect == "crack"].assign(defect="aaa")

    before, after = plan(factory, catalog), plan(factory, pd.concat([added, catalog], ignore_index=True))

    assert len(after) == len(before) + 6
    assert by_id(before).items() <= by_id(after).items()


def test_nothing_of_the_evaluation_is_a_source(factory: Factory, catalog: pd.DataFrame) -> None:
    """Test images would leak into the samples, and every number would be too good."""
    rows = plan(factory, catalog, count=60)
    allowed = catalog[catalog.split == "train"]
    tested = catalog[catalog.split == "test"]

    assert {row.background_sha256 for row in rows} == set(allowed[allowed.defect == "good"].image_sha256)
    for defect in ("crack", "spot"):
        masks = {row.mask_sha256 for row in rows if row.defect == defect}
        assert masks == set(allowed[allowed.defect == defect].mask_sha256)
    used = {value for row in rows for value in row}
    assert not used & set(tested[["image_path", "image_sha256", "mask_path", "mask_sha256"]].to_numpy().ravel()) - {None}


def test_what_was_set_aside_is_no_source(factory: Factory, catalog: pd.DataFrame) -> None:
    """A file that was refused for a reason would come back as a background or a mask."""
    first = catalog[catalog.split == "train"].groupby("defect").head(1).index
    catalog.loc[catalog.index.isin(first) & (catalog.defect != "spot"), "status"] = "set_aside"
    gone = set(catalog[catalog.status == "set_aside"].image_sha256) | set(catalog[catalog.status == "set_aside"].mask_sha256)

    rows = plan(factory, catalog, count=60)

    assert len(gone - {None}) >= 3
    assert not gone & {value for row in rows for value in (row.background_sha256, row.mask_sha256)}


def test_paths_and_digests_are_those_of_one_file(factory: Factory, catalog: pd.DataFrame) -> None:
    """Lineage would name a photograph that the sample was not made from."""
    images, masks = (dict(zip(catalog[f"{kind}_path"], catalog[f"{kind}_sha256"], strict=True)) for kind in ("image", "mask"))

    for row in plan(factory, catalog, count=50):
        assert images[row.background_path] == row.background_sha256
        assert masks[row.mask_path] == row.mask_sha256


def test_masks_are_turned_only_where_asked_for(factory: Factory, catalog: pd.DataFrame) -> None:
    """`real` would not be the paper's masks, or `augmented` would add nothing to a few of them."""
    assert {row.mask_turn for row in plan(factory, catalog, mask_source="real", count=50)} == {0}
    assert {row.mask_turn for row in plan(factory, catalog, mask_source="augmented", count=200)} == set(range(8))


def without_mask(row: PlanRow) -> dict[str, object]:
    return {name: value for name, value in row._asdict().items() if not name.startswith("mask_")}


@pytest.mark.parametrize("other", ["augmented", "perlin", "warped"])
def test_another_mask_source_changes_nothing_but_masks(factory: Factory, catalog: pd.DataFrame, other: str) -> None:
    """The comparison of the mask sources would compare different backgrounds and seeds too."""
    real, changed = (plan(factory, catalog, mask_source=source, background="random") for source in ("real", other))

    assert [without_mask(row) for row in changed] == [without_mask(row) for row in real]
    assert {row.mask_kind for row in changed} == {other}


def test_turned_masks_are_of_the_same_files(factory: Factory, catalog: pd.DataFrame) -> None:
    """`augmented` would use other masks than `real`."""
    real, augmented = (plan(factory, catalog, mask_source=source) for source in ("real", "augmented"))

    assert [(row.mask_path, row.mask_area) for row in augmented] == [(row.mask_path, row.mask_area) for row in real]


def test_noise_masks_name_no_photograph_and_each_has_its_own_seed(factory: Factory, catalog: pd.DataFrame) -> None:
    """A recall of a defect image would delete samples that never saw it, or all samples would have one mask."""
    rows = plan(factory, catalog, mask_source="perlin", count=20)

    assert {(row.mask_path, row.mask_sha256, row.mask_turn) for row in rows} == {("", "", 0)}
    assert len({row.mask_seed for row in rows}) == len({row.mask_digest for row in rows}) == 40
    assert all(0 < row.mask_seed < 2**63 for row in rows)


@pytest.mark.parametrize("kind", ["real", "augmented", "perlin", *NEW])
@pytest.mark.parametrize("placement", ["as_is", "on_object", "on_part"])
def test_a_row_gives_the_planned_mask(factory: Factory, catalog: pd.DataFrame, kind: str, placement: str) -> None:
    """A run would stop at its first sample, or the plan would tell another mask than the sample has."""
    source = with_object(factory, catalog)
    rows = make_plan(
        with_strategy(catalog, "files"),
        factory.params.synthesize.model_copy(update={"mask_source": kind, "placement": placement, "count": 10}),
        factory.params.base.prompts,
        source=source,
        settings="test",
        root_seed=7,
    )

    for row in rows:
        mask = sample_mask(row, source, factory.params.synthesize.perlin)
        assert mask.sum() == row.mask_area > 0
        assert is_on(mask, OBJECT) or placement == "as_is"
        is_whole = (mask * OBJECT).sum() == mask.sum()
        assert is_whole or placement == "as_is" or not (row.mask_shift_y or row.mask_shift_x)
        assert is_whole or placement == "as_is" or kind not in DRAWN
    assert {row.foreground for row in rows} == {"none" if placement == "as_is" else "files"}
    assert any(row.mask_shift_y or row.mask_shift_x for row in rows) == (placement != "as_is" and kind != "perlin")


OBJECT = np.zeros((SIZE, SIZE), np.uint8)
OBJECT[7:, 2:] = 1


def with_object(factory: Factory, catalog: pd.DataFrame) -> Source:
    """The factory's pixels, with an object on every photograph that its masks do not lie on wholly."""
    return factory.source()._replace(foregrounds=dict.fromkeys(catalog.image_sha256, OBJECT))


def with_strategy(catalog: pd.DataFrame, strategy: str) -> pd.DataFrame:
    return catalog.assign(foreground_strategy=catalog.foreground_strategy.where(catalog.foreground_strategy.isna(), strategy))


def test_masks_stay_where_no_object_was_found(factory: Factory, catalog: pd.DataFrame) -> None:
    """On a texture, masks would be shifted for nothing, and the plan would claim an object."""
    rows = plan(factory, catalog, placement="on_object", count=20)

    assert {(row.foreground, row.mask_shift_y, row.mask_shift_x) for row in rows} == {("none", 0, 0)}
    assert rows == plan(factory, catalog, placement="as_is", count=20)


def test_a_source_reads_what_the_rows_name(factory: Factory, catalog: pd.DataFrame) -> None:
    """A sample would be made from another photograph than its row says."""
    source = factory.source()
    row = plan(factory, catalog)[0]
    root = factory.data.parent / "raw"

    assert np.array_equal(source.backgrounds[row.background_sha256].image, Image.open(root / row.background_path))
    assert np.array_equal(source.masks[row.mask].mask * 255, Image.open(root / row.mask_path))
    assert set(source.foregrounds) == set(source.backgrounds) | set(source.masks)
    trained = catalog[catalog.split == "train"]
    assert set(source.backgrounds) <= set(trained.image_sha256)
    assert set(source.masks) <= set(trained[["mask_path", "mask_sha256"]].itertuples(index=False, name=None))
    assert (len(source.backgrounds), len(source.masks)) == (5, 3)


def test_photographs_whose_masks_have_equal_bytes_keep_their_own_pixels(factory: Factory, tmp_path: Path) -> None:
    """A part photographed in two lights with one mask file: a sample would show another photograph than its row and lineage name."""
    table = pq.read_table(factory.catalog)
    rows = table.to_pylist()
    one, other = [row for row in rows if row["split"] == "train" and row["defect"] == "crack"][:2]
    other |= {name: one[name] for name in ("mask", "mask_sha256")}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "catalog.parquet")
    source, catalog = read_source(tmp_path), read_catalog(tmp_path / "catalog.parquet")
    plan = METHODS["paste"].planner(factory.recipe("paste"), catalog, source)

    planned = [plan(Identity("paste", CATEGORY, "crack", k, 0)) for k in range(20)]

    assert {row.source_path for row in planned} >= {one["image_path"], other["image_path"]}
    for row in planned:
        named = source.photographs[row.source_sha256].image
        assert np.array_equal(placed(row, source).image, placed(row, source, named).image)
    assert len(source.masks) == len(source.photographs)


def test_an_older_catalog_is_answered_with_the_command(factory: Factory, tmp_path: Path) -> None:
    """A user who updates the factory would see a KeyError."""
    table = pq.read_table(factory.catalog).drop_columns(["foreground"])
    pq.write_table(table, tmp_path / "catalog.parquet")

    with pytest.raises(CorruptFileError, match=r"the column foreground .* Run `dvc repro prepare`"):
        read_source(tmp_path)


def test_backgrounds_are_drawn_evenly(factory: Factory, catalog: pd.DataFrame) -> None:
    """Some photographs would hardly be used."""
    counts = pd.Series([row.background_sha256 for row in plan(factory, catalog, count=250)]).value_counts()

    assert len(counts) == 5
    assert (counts > 100 - 5 * np.sqrt(500 * 0.2 * 0.8)).all()  # five standard deviations of the binomial below its mean


def test_prompt_and_licence_travel_with_the_row(factory: Factory, catalog: pd.DataFrame) -> None:
    """A dataset could not be published, because nobody would know under which terms."""
    templates = Prompts(normal="-", defect="a {category} with a {defect}", isolated="-")
    row = make_plan(
        catalog.assign(defect=catalog.defect.replace("crack", "long_crack")),
        factory.params.synthesize,
        templates,
        source=factory.source(),
        settings="s",
        root_seed=0,
    )[0]

    assert row.prompt == f"a {CATEGORY} with a long crack"
    assert (row.licence, row.settings, row.method, row.attempt) == ("CC0-1.0", "s", "stage", 0)


def test_how_samples_are_rendered_changes_no_row(factory: Factory, catalog: pd.DataFrame) -> None:
    """Steps or batch size would change which photographs are used, and comparisons would not be alike."""
    others: dict[str, object] = {"steps": 9, "batch": 2, "shard_rows": 1, "known_region": "fresh", "clamp": False, "verdict": verdict(0.5)}

    assert set(others) < set(Synthesize.model_fields)
    assert plan(factory, catalog, **others) == plan(factory, catalog)


def test_a_catalog_on_disk_and_in_memory_plan_alike(factory: Factory, catalog: pd.DataFrame, tmp_path: Path) -> None:
    """Column types after a round trip would change the plan."""
    catalog.to_csv(tmp_path / "catalog.csv", index=False)

    assert plan(factory, pd.read_csv(tmp_path / "catalog.csv")) == plan(factory, catalog)
