"""The plan: what a sample is made from depends on its identity alone, and never on an image of the evaluation."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_factory import CATEGORY, Factory, build, plan_row

from stage.datasets.table import read_catalog
from stage.params import Prompts, Synthesize
from stage.synthesis.plan import PlanRow, batches, make_plan


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def catalog(factory: Factory) -> pd.DataFrame:
    return read_catalog(factory.catalog)


def plan(factory: Factory, catalog: pd.DataFrame, *, root_seed: int = 7, **changes: object) -> list[PlanRow]:
    params = factory.params.synthesize.model_copy(update=changes)
    return make_plan(catalog, params, factory.params.base.prompts, settings="test", root_seed=root_seed)


def by_id(rows: list[PlanRow]) -> dict[str, PlanRow]:
    return {row.sample_id: row for row in rows}


def test_the_same_inputs_give_the_same_rows(factory: Factory, catalog: pd.DataFrame) -> None:
    """A repeated run would make other samples."""
    assert plan(factory, catalog) == plan(factory, catalog)


def test_a_seed_is_the_digest_of_the_identity(factory: Factory, catalog: pd.DataFrame) -> None:
    """A seed that depended on a shard, a worker or the time could not be found again from a sample's name."""
    for row in plan(factory, catalog):
        digest = hashlib.blake2b(f"7|part|{row.defect}|{row.ordinal}|0".encode(), digest_size=8).digest()
        assert row.seed == int.from_bytes(digest, "big") // 2 < 2**63


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
    added = catalog[catalog.defect == "crack"].assign(defect="aaa", mask_sha256="new")

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


def test_turning_masks_changes_nothing_else(factory: Factory, catalog: pd.DataFrame) -> None:
    """The comparison of the two mask sources would compare different backgrounds too."""
    real, augmented = (plan(factory, catalog, mask_source=source) for source in ("real", "augmented"))

    assert [row._replace(mask_turn=0) for row in augmented] == real


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
        settings="s",
        root_seed=0,
    )[0]

    assert row.prompt == f"a {CATEGORY} with a long crack"
    assert (row.licence, row.settings, row.method, row.attempt) == ("CC0-1.0", "s", "stage", 0)


@pytest.mark.parametrize("size", [1, 3, 4, 6, 100])
def test_a_slot_is_the_ordinal_modulo_the_batch(size: int) -> None:
    """A sample's bits depend on its slot: with another neighbour they would change."""
    rows = [plan_row(k, defect=defect) for defect in ("crack", "spot") for k in range(6)]

    work = list(batches(rows, size))

    assert [row for batch in work for row in batch] == rows
    assert all(len(batch) <= size and len({row.defect for row in batch}) == 1 for batch in work)
    assert all(row.ordinal % size == slot for batch in work for slot, row in enumerate(batch))


def test_an_empty_plan_makes_no_batches() -> None:
    """A category without work would crash."""
    assert list(batches([], 4)) == []


def test_how_samples_are_rendered_changes_no_row(factory: Factory, catalog: pd.DataFrame) -> None:
    """Steps or batch size would change which photographs are used, and comparisons would not be alike."""
    others: dict[str, object] = {"steps": 9, "batch": 2, "shard_rows": 1, "known_region": "fresh", "clamp": False, "feather": 0}

    assert set(others) < set(Synthesize.model_fields)
    assert plan(factory, catalog, **others) == plan(factory, catalog)


def test_a_catalog_on_disk_and_in_memory_plan_alike(factory: Factory, catalog: pd.DataFrame, tmp_path: Path) -> None:
    """Column types after a round trip would change the plan."""
    catalog.to_csv(tmp_path / "catalog.csv", index=False)

    assert plan(factory, pd.read_csv(tmp_path / "catalog.csv")) == plan(factory, catalog)
