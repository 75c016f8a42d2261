"""Shards: every sample once, with its lineage and verdict, readable by others, and named by digests that hold."""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_factory import DESCRIBED, origin, plan_row, publish_rows

from stage.core.errors import CorruptFileError, DataError
from stage.datasets.columns import Columns
from stage.datasets.pairs import Pair
from stage.datasets.table import COLUMNS as CATALOG_COLUMNS
from stage.release.reader import read_samples, sample_rows
from stage.release.shards import shard_name, write_manifest, write_shards
from stage.synthesis.rows import Origin, PlanRow, Verdict
from stage.synthesis.schema import COLUMNS, MANIFEST, SCHEMA, sample_row, write_samples

SEEN = (0.25, 0.125, "f" * 64, 7.5)  # margin, share that looks normal, the nearest training defect and its distance


def pair(ordinal: int) -> Pair:
    random = np.random.default_rng(ordinal)
    return Pair(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), random.integers(0, 2, (8, 8), dtype=np.uint8))


def sample(ordinal: int) -> dict[str, Any]:
    """Every third one is rejected."""
    verdict = (
        Verdict(3.5, 0, 2, 1, *SEEN, "rejected", "looks normal") if ordinal % 3 == 2 else Verdict(20.25, 0, 1, 1, *SEEN, "accepted", "")
    )
    return sample_row(plan_row(ordinal), pair(ordinal), verdict, origin())


def published(folder: Path, count: int = 12, *, size: int = 4, shard_rows: int = 5) -> Path:
    """A folder of shards, made from tables of `size` rows."""
    rows = [sample(k) for k in range(count)]
    tables = (pa.Table.from_pylist(rows[start : start + size], schema=SCHEMA) for start in range(0, count, size))
    write_manifest(folder, write_shards(tables, shard_rows, folder), **DESCRIBED)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards_of(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("*.parquet"))


def test_hugging_face_datasets_decodes_the_pictures_and_has_every_column(tmp_path: Path) -> None:
    """Users of `load_dataset` would get dictionaries of bytes instead of images, or lose the lineage."""
    files = str(published(tmp_path) / "shards" / "*.parquet")

    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))

    assert loaded.column_names == [*PlanRow._fields, *Verdict._fields, *Origin._fields, "image_digest", "image", "mask"]
    assert len(loaded) == 12
    for ordinal, row in enumerate(loaded):
        _assert_is(row, ordinal)


def test_hugging_face_datasets_streams_the_same(tmp_path: Path) -> None:
    """A dataset too large for one machine could not be trained on."""
    streamed = datasets.load_dataset("parquet", data_files=str(published(tmp_path) / "shards" / "*.parquet"), split="train", streaming=True)

    rows = list(streamed)

    assert len(rows) == 12
    for ordinal, row in enumerate(rows):
        _assert_is(row, ordinal)


def _assert_is(row: dict[str, Any], ordinal: int) -> None:
    image, mask = pair(ordinal)
    assert {name: row[name] for name in PlanRow._fields} == plan_row(ordinal)._asdict()
    assert isinstance(row["image"], Image.Image)
    assert isinstance(row["mask"], Image.Image)
    assert np.array_equal(np.asarray(row["image"]), image)
    assert np.array_equal(np.asarray(row["mask"]), mask * 255)
    assert row["verdict"] == ("rejected" if ordinal % 3 == 2 else "accepted")


def test_duckdb_and_pandas_read_the_columns(tmp_path: Path) -> None:
    """The queries of docs/data.md would not run."""
    folder = published(tmp_path)

    query = f"SELECT verdict, count(*), avg(contrast), max(seed) FROM '{folder}/shards/*.parquet' GROUP BY verdict ORDER BY verdict"
    frame = pd.read_parquet(shards_of(folder)[0], columns=["sample_id", "contrast"])

    assert duckdb.sql(query).fetchall() == [("accepted", 8, 20.25, 2**62 + 10), ("rejected", 4, 3.5, 2**62 + 11)]
    assert frame.sample_id.tolist() == [f"stage/part/crack/{k:06d}/0" for k in range(5)]


def test_a_picture_says_that_it_is_synthetic_and_which_sample_it_is() -> None:
    """A picture that left its shard would pass for a photograph."""
    row = sample(4)

    for name in ("image", "mask"):
        with Image.open(io.BytesIO(row[name]["bytes"])) as opened:
            assert {"Synthetic": "true", "Sample": "stage/part/crack/000004/0"}.items() <= opened.info.items()


@pytest.mark.parametrize(("columns", "section"), [(COLUMNS, "### A shard's columns"), (CATALOG_COLUMNS, "## The catalog")])
def test_every_column_is_described(columns: Columns, section: str) -> None:
    """A user would find a column that nobody explains, or read of one that is not there."""
    text = (Path(__file__).parents[1] / "docs/data.md").read_text()
    table = text.split(f"{section}\n")[1].split("\n#")[0]
    described = [name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])]

    assert sorted(set(columns) - set(described)) == []
    assert described.index("image") > 10


def test_a_shard_says_its_schema_version(tmp_path: Path) -> None:
    """A reader of another version would take a column for what it is not."""
    folder = published(tmp_path)

    assert pq.read_schema(shards_of(folder)[0]).metadata[b"schema_version"] == b"3"
    assert json.loads((folder / MANIFEST).read_text())["schema_version"] == "3"


@pytest.mark.parametrize("defect", ["../../up", "a/b", "", "x" * 300, "<b>", "con*?", "größe", "a b"])
def test_a_name_from_the_data_cannot_lead_out_of_the_folder(defect: str) -> None:
    """A defect type called `../../up` would be written over someone's files, or `*` be read as a pattern."""
    assert re.fullmatch(r"shards/[A-Za-z0-9_-]{17,57}-00007\.parquet", shard_name(defect, 7))
    assert shard_name(defect, 7) != shard_name(f"{defect}.", 7)


@pytest.mark.parametrize(
    "alike", [[f"裂{k}" for k in range(20000)], ["crack", "Crack", "CRACK", "cra ck", "cra_ck"], ["x" * 60 + end for end in "abc"]]
)
def test_no_two_defect_types_have_one_shard(alike: list[str]) -> None:
    """The second would be written over the first, and its samples vanish without a word; on some disks, case does not count."""
    assert len({shard_name(defect, 0).lower() for defect in alike}) == len(alike)


def test_no_shard_is_written_twice(tmp_path: Path) -> None:
    """Samples that come in another order would be written over those that came before."""
    rows = [sample(k) for k in (0, 5, 1)]

    with pytest.raises(DataError, match=r"Expected every shard to be written once, found .*crack-.{16}-00000\.parquet again"):
        publish_rows(rows, 5, tmp_path)


def test_defect_types_share_no_shard(tmp_path: Path) -> None:
    """A new defect type would move every sample after it into another file."""
    rows = [
        sample_row(plan_row(k, defect=defect), pair(k), Verdict(9, 0, 1, 1, *SEEN, "accepted", ""), origin())
        for defect in "ab"
        for k in range(7)
    ]

    manifest = publish_rows(rows, 5, tmp_path)

    assert [(shard["defect"], shard["rows"]) for shard in manifest["shards"]] == [("a", 5), ("a", 2), ("b", 5), ("b", 2)]
    assert manifest["shards"][0]["path"].startswith("shards/a-")


def test_more_samples_leave_full_shards_as_they_are(tmp_path: Path) -> None:
    """DVC would store and push every file again for a hundred more samples."""
    few, more = (contents(published(tmp_path / str(count), count)) for count in (10, 12))

    assert {name: more[name] for name in few if name != MANIFEST} == {name: few[name] for name in few if name != MANIFEST}


def test_a_row_has_the_columns_of_the_shard() -> None:
    """A value would be dropped when it is written, without a word."""
    assert list(sample(0)) == list(COLUMNS)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 6, 11, 12, 50])
def test_a_shard_is_a_fixed_run_of_samples_for_any_batch(tmp_path: Path, size: int) -> None:
    """Another batch size would move samples between files, and every file would count as changed."""
    folder = published(tmp_path, size=size)

    counts = [pd.read_parquet(path, columns=["ordinal"]).ordinal.tolist() for path in shards_of(folder)]

    assert counts == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    """DVC would see a new version where nothing has changed."""
    assert contents(published(tmp_path / "a")) == contents(published(tmp_path / "b", size=7))


def test_the_manifest_s_digests_hold(tmp_path: Path) -> None:
    """A metric would name a dataset that nobody can find or check."""
    folder = published(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())

    digests = []
    for shard in manifest["shards"]:
        assert shard["sha256"] == hashlib.sha256((folder / shard["path"]).read_bytes()).hexdigest()
        rows = pd.read_parquet(folder / shard["path"])
        told = "".join(f"{row.sample_id} {row.image_digest} {row.mask_digest}\n" for row in rows.itertuples())
        digests.append(hashlib.sha256(told.encode()).hexdigest())
    assert digests == [shard["pixels"] for shard in manifest["shards"]]
    assert manifest["digest"] == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_the_manifest_counts(tmp_path: Path) -> None:
    """The report would say that more samples were accepted than there are."""
    manifest = publish_rows([sample(k) for k in range(12)], 5, tmp_path)

    assert {name: manifest[name] for name in ("count", "accepted", "rejected")} == {"count": 12, "accepted": 8, "rejected": 4}
    assert [(shard["rows"], shard["accepted"]) for shard in manifest["shards"]] == [(5, 4), (5, 3), (2, 1)]
    assert json.loads((tmp_path / MANIFEST).read_text()) == manifest


def test_one_other_pixel_gives_another_digest(tmp_path: Path) -> None:
    """Two datasets would pass for the same one."""
    image, mask = pair(0)
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    other = sample_row(plan_row(0), Pair(changed, mask), Verdict(20.25, 0, 1, 1, *SEEN, "accepted", ""), origin())

    manifests = [publish_rows([row], 5, tmp_path / str(number)) for number, row in enumerate((sample(0), other))]

    assert manifests[0]["digest"] != manifests[1]["digest"]


def test_rejected_samples_stay_in_the_shards_and_out_of_training(tmp_path: Path) -> None:
    """A defect that looks normal would be taught to the segmenter, or its reason be lost."""
    folder = published(tmp_path)

    every, accepted = (read_samples(folder, accepted_only=only) for only in (False, True))

    assert [row["ordinal"] for row in sample_rows(folder, ["ordinal"])] == list(range(12))
    assert [row["reason"] for row in sample_rows(folder, ["reason"])][2] == "looks normal"
    for samples, ordinals in ((every, range(12)), (accepted, [0, 1, 3, 4, 6, 7, 9, 10])):
        assert len(samples) == len(ordinals)
        for found, k in zip(samples, ordinals, strict=True):
            assert np.array_equal(found.image, pair(k).image)
            assert np.array_equal(found.mask, pair(k).mask)


def test_a_file_that_the_manifest_does_not_name_is_not_read(tmp_path: Path) -> None:
    """A shard left over from something else would count as published."""
    folder = published(tmp_path)
    write_samples([sample(99)], folder / "shards" / "crack-00099.parquet")

    assert len(read_samples(folder, accepted_only=False)) == 12


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    """A user would see a traceback of pyarrow, without the file's name."""
    shard = shards_of(published(tmp_path))[1]
    shard.write_bytes(shard.read_bytes()[:-20])

    with pytest.raises(CorruptFileError, match=r"crack-.{16}-00001\.parquet.*dvc checkout"):
        read_samples(tmp_path, accepted_only=True)


def test_missing_samples_are_named(tmp_path: Path) -> None:
    """`stage export` before the first run would end in a traceback."""
    with pytest.raises(CorruptFileError, match=r"Expected manifest\.json .*, found none\. Run `dvc repro synthesize`"):
        read_samples(tmp_path, accepted_only=True)
