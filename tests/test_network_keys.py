"""Networks are trained again where what they learn from has changed, and only there: the keys of their works say so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_factory import CATEGORY, Factory, build

from flows.pretrain import pretraining_key
from flows.scoring import CATALOGS, training_key
from flows.train import training_key as adapters_key
from stage.datasets.pairs import decode_image, decode_mask, image_cell, write_table
from stage.datasets.table import COLUMNS
from stage.segmentation.arms import ArmChoice, Training

Rows = list[dict[str, Any]]
ALONE = Training(ArmChoice("real_only"), "segformer", 0)
NETWORKS = ("base", "adapters", "segmenter", "on a fold", "with few")


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def rows(factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows of the catalog, from which each test writes its own in the working folder."""
    monkeypatch.chdir(tmp_path)
    return pq.read_table(factory.catalog).to_pylist()


def keys(rows: Rows, factory: Factory) -> dict[str, str]:
    """The key of each network over a catalog of these rows."""
    write_table(rows, COLUMNS, CATALOGS / CATEGORY / "catalog.parquet")
    params, folder = factory.params, CATALOGS / CATEGORY
    params = params.model_copy(update={"pretrain": params.pretrain.model_copy(update={"start": "none"})})
    segmenters = (ALONE, ALONE._replace(fold=0), ALONE._replace(choice=ALONE.choice._replace(few=1)))
    return {
        "base": pretraining_key([folder], params),
        "adapters": adapters_key(folder, factory.data / "pretrain" / "base", params),
        **{name: training_key(CATEGORY, one, {}, params) for name, one in zip(NETWORKS[2:], segmenters, strict=True)},
    }


def changed(rows: Rows, split: str, change: Callable[[dict[str, Any]], dict[str, Any]], *, good: bool = False) -> Rows:
    """The rows, the last of a side of the split changed."""
    number = max(k for k, row in enumerate(rows) if row["split"] == split and (row["defect"] == "good") == good)
    return [row | change(row) if k == number else row for k, row in enumerate(rows)]


def brighter(row: dict[str, Any]) -> dict[str, Any]:
    return {"image": image_cell((decode_image(row["image"]["bytes"]) // 2 + 90).astype(np.uint8))}


def wider(row: dict[str, Any]) -> dict[str, Any]:
    return {"mask": image_cell(np.maximum(decode_mask(row["mask"]["bytes"]), np.eye(16, dtype=np.uint8)))}


def renamed(_: dict[str, Any]) -> dict[str, Any]:
    return {"defect": "zebra"}


def in_group(_: dict[str, Any]) -> dict[str, Any]:
    return {"group": "another"}


def gone(_: dict[str, Any]) -> dict[str, Any]:
    """As a recall leaves it."""
    return {"status": "recalled", "image": None, "mask": None, "foreground": None}


def test_what_decides_nothing_trains_nothing_again(rows: Rows, factory: Factory) -> None:
    """A file that Finder leaves behind, or another licence, would cost hours of training to the same weights."""
    stranger = dict.fromkeys(COLUMNS) | {"status": "set_aside", "defect": "good", "split": "", "image_path": "part/train/good/.DS_Store"}
    others = [row | {"licence": "CC0-1.0 or later", "note": "seen", "foreground": None} for row in rows]

    assert keys([stranger, *others], factory) == keys(rows, factory)


@pytest.mark.parametrize("change", [brighter, wider, gone])
@pytest.mark.parametrize("good", [True, False])
def test_a_test_image_decides_what_is_scored_on_it_and_nothing_else(
    change: Callable[[dict[str, Any]], dict[str, Any]], good: bool, rows: Rows, factory: Factory
) -> None:
    """One more photograph to test on would train base, adapters and the folds again; or a score would be of yesterday's photographs."""
    before, after = keys(rows, factory), keys(changed(rows, "test", change, good=good), factory)

    assert {name for name in NETWORKS if before[name] != after[name]} == {"segmenter", "with few"}


@pytest.mark.parametrize(
    ("change", "good", "again"),
    [
        (brighter, True, NETWORKS),
        (brighter, False, NETWORKS),
        (wider, False, NETWORKS),
        (gone, False, NETWORKS),
        (gone, True, NETWORKS),
        (renamed, False, ("base", "adapters", "on a fold", "with few")),
        (in_group, False, ("on a fold", "with few")),
    ],
)
def test_a_training_image_decides_every_network_that_reads_it(
    change: Callable[[dict[str, Any]], dict[str, Any]], good: bool, again: tuple[str, ...], rows: Rows, factory: Factory
) -> None:
    """A network would be taken for one that had learned from today's images."""
    before, after = keys(rows, factory), keys(changed(rows, "train", change, good=good), factory)

    assert {name for name in NETWORKS if before[name] != after[name]} == set(again)


def test_the_order_of_the_training_images_counts(rows: Rows, factory: Factory) -> None:
    """Each iteration draws images by number: the same images in another order give other weights."""
    assert not set(keys(rows, factory).values()) & set(keys(rows[::-1], factory).values())


def test_a_category_counts_by_its_name_in_the_base(rows: Rows, factory: Factory) -> None:
    """Two categories whose photographs change places would be trained under each other's prompts."""
    renamed_category = [row | {"category": "other"} for row in rows]

    assert keys(rows, factory)["base"] != keys(renamed_category, factory)["base"]
