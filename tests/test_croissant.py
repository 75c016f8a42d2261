"""The Croissant metadata of a published data set: by the reference implementation, which reads the samples through it, and by the manifest."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest
from small_factory import publish

from stage.release.reader import read_manifest
from stage.release.verification import foreign_files, verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture
def metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "croissant.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the RDF library beneath it
def test_the_reference_implementation_finds_no_error_and_reads_the_samples(folder: Path, tmp_path: Path) -> None:
    """A data set search, or a loader that knows Croissant alone, would find nothing of it, or other values than were published."""
    copy = shutil.copytree(folder, tmp_path / "moved")

    data = mlcroissant.Dataset(copy / "croissant.json")

    assert list(data.metadata.ctx.issues.errors) == []
    read = {record["samples/sample_id"].decode(): record["samples/image_digest"].decode() for record in data.records("samples")}
    shards = [pq.read_table(path, columns=["sample_id", "image_digest"]).to_pylist() for path in sorted(folder.glob("shards/*"))]
    assert read == {row["sample_id"]: row["image_digest"] for rows in shards for row in rows}


def test_it_names_every_shard_by_its_digest_and_every_column(folder: Path, metadata: dict[str, Any]) -> None:
    """A file that was exchanged would pass, or a column be unknown."""
    files = {one["contentUrl"]: one["sha256"] for one in metadata["distribution"] if one["@type"] == "cr:FileObject"}

    manifest = read_manifest(folder)
    assert {shard["path"]: shard["sha256"] for shard in manifest["shards"]}.items() <= files.items()
    columns = pq.read_schema(folder / manifest["shards"][0]["path"]).names
    assert [field["source"]["extract"]["column"] for field in metadata["recordSet"][0]["field"]] == columns
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert metadata["license"] == ["CC0-1.0"]


def test_it_says_what_the_samples_were_made_from_and_by(folder: Path, metadata: dict[str, Any]) -> None:
    """Nobody who finds the data set could see that it is synthetic, or where its photographs are named."""
    assert {one["@id"] for one in metadata["prov:wasDerivedFrom"]} == {"sources.parquet", "checkpoints.parquet", "plan.parquet"}
    assert json.loads(metadata["prov:wasGeneratedBy"]["prov:value"]) == read_manifest(folder)["inputs"]
    assert metadata["digitalSourceType"]["@id"].endswith("/compositeWithTrainedAlgorithmicMedia")
    derived = {field["name"] for field in metadata["recordSet"][0]["field"] if field.get("equivalentProperty") == "prov:wasDerivedFrom"}
    assert derived == {"background_sha256", "source_sha256", "mask_sha256", "checkpoint", "base"}


def test_it_belongs_to_the_data_set(folder: Path) -> None:
    """`stage verify` would call it a stranger."""
    assert (verify(folder), foreign_files(folder)) == ([], [])
