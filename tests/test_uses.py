"""The leak guard before `segment` and `evaluate`: what published samples and their networks were made from is not tested."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_factory import CATEGORY, Factory, build
from source_tree import ROOT

from flows.ablate import made_with
from stage.ablation.configurations import Configuration
from stage.core.errors import CorruptFileError, DataError
from stage.core.params import load_params
from stage.datasets.table import read_catalog
from stage.release.publication import publish_jobs
from stage.release.uses import check_samples
from stage.synthesis.rows import MissedDefect


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """A category with the samples of both methods in `out/<method>`."""
    root = tmp_path_factory.mktemp("published")
    factory = build(root)
    for method in ("stage", "paste"):
        job = factory.job(root / "spool", method=method)
        factory.fill(job)
        publish_jobs([job.folder], factory.data / "out" / method, lease_s=60.0)
    return factory


@pytest.fixture
def data(published: Factory, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    shutil.copytree(published.data, tmp_path / "data")
    return tmp_path / "data"


def check(data: Path) -> None:
    check_samples(data / "prepare", CATEGORY, [data / "out" / method for method in ("stage", "paste")])


def change(path: Path, **where: object) -> None:
    """Give columns of the first row of a table other values."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0].update(where)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def regroup(data: Path, path: str, group: str) -> None:
    """Give an image another group in the catalog, as a groups file that was confirmed since would."""
    catalog = data / "prepare" / CATEGORY / "catalog.parquet"
    table = pq.read_table(catalog)
    rows = [{**row, "group": group} if row["image_path"] == path else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), catalog)


def photograph(data: Path, *, good: bool = False) -> dict[str, str]:
    """An evaluation image's row of the catalog."""
    catalog = read_catalog(data / "prepare" / CATEGORY / "catalog.parquet")
    rows = catalog[(catalog["split"] == "test") & ((catalog["defect"] == "good") == good)]
    return rows.iloc[0].to_dict()


def test_what_was_made_from_the_generators_third_passes(data: Path) -> None:
    """No segmenter would ever be trained."""
    check(data)


def test_a_sample_whose_mask_is_mixed_with_a_tested_one_is_refused(data: Path) -> None:
    """The shape of a tested defect would be trained on."""
    image = photograph(data)
    change(data / "out/paste/plan.parquet", choices=json.dumps({"masks": [{"path": image["mask_path"], "sha256": image["mask_sha256"]}]}))

    with pytest.raises(DataError, match=rf"{image['mask_path']} .*is part of the mask of 1 sample in .*paste"):
        check(data)


def test_a_sample_planned_for_a_tested_defect_is_refused(data: Path) -> None:
    """The place of a tested defect would be trained on, by a method that takes no pixel of it."""
    image = photograph(data)
    missed = MissedDefect(**{name: image[name] for name in MissedDefect._fields})
    change(data / "out/paste/plan.parquet", choices=json.dumps({"missed": missed._asdict()}))

    with pytest.raises(DataError, match=rf"{image['image_path']} .*is the missed defect of 1 sample in .*paste"):
        check(data)


@pytest.mark.parametrize(("column", "role"), [("background", "the background"), ("source", "the defect")])
def test_a_sample_of_a_tested_photograph_is_refused(data: Path, column: str, role: str) -> None:
    """The segmenter would be trained on the pixels that it is tested on."""
    image = photograph(data)
    change(data / "out/paste/plan.parquet", **{f"{column}_path": "renamed.png", f"{column}_sha256": image["image_sha256"]})

    with pytest.raises(
        DataError, match=rf"{image['image_path']} is tested, and renamed.png \(the same file\) is {role} of 1 sample in .*paste"
    ):
        check(data)


def test_a_background_that_was_encoded_again_is_refused(data: Path) -> None:
    """Another file with the pixels of a test image would pass for a photograph of its own."""
    image = photograph(data)
    planned = pq.read_table(data / "out/stage/plan.parquet").to_pylist()[0]["background_sha256"]
    path = data / "out/stage/sources.parquet"
    table = pq.read_table(path)
    rows = [{**row, "image_digest": image["image_digest"]} if row["sha256"] == planned else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)

    with pytest.raises(DataError, match=rf"{image['image_path']} is tested, and \S+ \(the same pixels\) is the background of"):
        check(data)


def test_a_mask_of_a_tested_photograph_is_refused(data: Path) -> None:
    """The shape of a tested defect would be in the samples."""
    image = photograph(data)
    change(data / "out/stage/plan.parquet", mask_path=image["mask_path"], mask_sha256=image["mask_sha256"])

    with pytest.raises(
        DataError, match=rf"{image['image_path']} is tested, and {image['mask_path']} \(the same photograph\) is the mask of"
    ):
        check(data)


def test_a_background_whose_part_is_tested_is_refused(data: Path) -> None:
    """A groups file that is confirmed after the samples were made would change nothing."""
    image, planned = photograph(data), pq.read_table(data / "out/stage/plan.parquet").to_pylist()[0]
    for path in (image["image_path"], planned["background_path"]):
        regroup(data, path, "plate 7")

    with pytest.raises(DataError, match=r"\(the same group, plate 7\) is the background of \d+ samples? in .*stage"):
        check(data)


@pytest.mark.parametrize("network", [0, 1])
def test_a_network_that_was_trained_on_a_tested_photograph_is_refused(data: Path, network: int) -> None:
    """Base and adapters would know what is tested, and every sample show it."""
    image = photograph(data, good=True)
    path = data / "out/stage/checkpoints.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[network]["sources"] = [*rows[network]["sources"], image["image_sha256"]]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)

    with pytest.raises(DataError, match=rf"{image['image_path']} is tested, .* is a training image of the {rows[network]['kind']} behind"):
        check(data)


def test_masks_of_equal_bytes_are_no_leak(data: Path) -> None:
    """Two spots of one shape have one mask file: a small data set could not be used at all."""
    image = photograph(data)
    catalog = data / "prepare" / CATEGORY / "catalog.parquet"
    planned = pq.read_table(data / "out/stage/plan.parquet").to_pylist()[0]["mask_sha256"]
    table = pq.read_table(catalog)
    rows = [{**row, "mask_sha256": planned} if row["image_path"] == image["image_path"] else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), catalog)

    check(data)


@pytest.mark.parametrize("name", ["plan.parquet", "sources.parquet", "checkpoints.parquet"])
def test_a_missing_table_is_refused(data: Path, name: str) -> None:
    """Samples of which nobody knows the photographs would count as clean."""
    (data / "out/paste" / name).unlink()

    with pytest.raises(CorruptFileError, match=f"{name}, found none that can be read"):
        check(data)


def test_the_ablation_refuses_a_sample_of_a_tested_photograph(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bars of the ablation would be of segmenters that had seen what they are tested on."""
    shutil.move(data / "out", data / "synthesize" / CATEGORY)
    image = photograph(data)
    change(data / "synthesize" / CATEGORY / "stage/plan.parquet", background_path="renamed.png", background_sha256=image["image_sha256"])
    monkeypatch.chdir(data.parent)
    params = load_params(ROOT / "params.yaml")

    with ExitStack() as users, pytest.raises(DataError, match=rf"{image['image_path']} is tested, and renamed.png"):
        made_with(CATEGORY, Configuration(name="all", label="all", overrides={}), params, params, users)
