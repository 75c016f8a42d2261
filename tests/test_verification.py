"""`stage verify`: for each thing that can be wrong with a published data set, one that is wrong in just that."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image, PngImagePlugin
from small_factory import publish

from stage.chaos.damage import flipped
from stage.core.durable import write_sealed
from stage.core.errors import CorruptFileError
from stage.datasets.pairs import decode_image, encode_png
from stage.release.shards import Tally, data_digest
from stage.release.verification import foreign_files, verify
from stage.synthesis.rows import MissedDefect
from stage.synthesis.schema import SCHEMA, open_writer

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(published, tmp_path / "out")
    return tmp_path / "out"


def found(folder: Path) -> list[tuple[str, str]]:
    return [tuple(problem) for problem in verify(folder)]


def first_shard(folder: Path) -> Path:
    return sorted((folder / "shards").iterdir())[0]


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def tell(folder: Path, told: dict[str, Any]) -> None:
    """Another manifest, sealed as the product seals it: what is wrong is then in what it says."""
    write_sealed({key: value for key, value in told.items() if key != "seal"}, folder / "manifest.json")


def with_digests(folder: Path) -> None:
    """Make the manifest agree with the first shard as it is now: what is wrong is then in the rows alone."""
    told, path = manifest(folder), first_shard(folder)
    rows = pq.read_table(path)
    shard = next(shard for shard in told["shards"] if folder / shard["path"] == path)
    tally = Tally()
    for row in rows.select(tally.COLUMNS).to_pylist():
        tally.add(row)
    shard |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **tally.facts()}
    told["count"] = sum(shard["rows"] for shard in told["shards"])
    told["accepted"] = sum(shard["accepted"] for shard in told["shards"])
    told["rejected"] = told["count"] - told["accepted"]
    tell(folder, told | {"digest": data_digest(told["shards"])})


def rewrite(folder: Path, change: Callable[[Rows], None]) -> None:
    """A first shard with other rows, and digests that fit them."""
    path = first_shard(folder)
    rows = pq.read_table(path).to_pylist()
    change(rows)
    with open_writer(path) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))
    with_digests(folder)


def test_nothing_is_wrong_with_what_was_published(folder: Path) -> None:
    """Users would learn to ignore it."""
    assert found(folder) == []
    rewrite(folder, lambda rows: None)
    assert found(folder) == []


def test_a_flipped_bit_is_found_in_every_file(folder: Path) -> None:
    """A damaged disk would change the data without a word."""
    names = [*(shard["path"] for shard in manifest(folder)["shards"]), *manifest(folder)["tables"]]
    for name in names:
        content = (folder / name).read_bytes()
        for place in (0, len(content) // 3, len(content) - 1):
            (folder / name).write_bytes(flipped(content, 8 * place + 2))
            assert any(where == name and what.startswith("expected SHA-256") for where, what in found(folder)), (name, place)
        (folder / name).write_bytes(content)
    assert len(names) == 4 + 4


def test_a_truncated_shard_is_found_and_the_others_are_still_read(folder: Path) -> None:
    """After the first problem, nobody would know about the rest."""
    first, second = sorted((folder / "shards").iterdir())[:2]
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:-9])

    assert [where for where, _ in found(folder)] == [f"shards/{path.name}" for path in (first, second)]


def test_a_missing_and_a_strange_file_are_found(folder: Path) -> None:
    """A shard would be lost, or one from elsewhere be trained on."""
    name = f"shards/{first_shard(folder).name}"
    first_shard(folder).rename(folder / "shards" / "zzz.parquet")

    assert found(folder) == [
        (name, "expected a file, found none"),
        ("shards/zzz.parquet", "expected only the Parquet files that the manifest names, found one more"),
    ]


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"schema_version": "3", "shards": [{}], "tables": {}}'])
def test_a_damaged_manifest_is_found(folder: Path, content: str | None) -> None:
    """A traceback would say nothing to a user."""
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)

    [(where, what)] = found(folder)
    assert where == "manifest.json"
    assert what.lower().startswith("expected")


def test_a_manifest_that_was_changed_by_hand_is_found(folder: Path) -> None:
    """A count, or a digest, could be made to fit anything."""
    (folder / "manifest.json").write_text(json.dumps(manifest(folder) | {"count": 13}, indent=2) + "\n")

    [(where, what)] = found(folder)
    assert where == "manifest.json"
    assert "found a seal that does not fit it" in what


@pytest.mark.parametrize("content", [{"schema_version": "3"}, {"schema_version": "3", "shards": [{}], "tables": {}}])
def test_a_sealed_manifest_without_its_keys_is_found(folder: Path, content: dict[str, Any]) -> None:
    """A traceback would say nothing to a user."""
    tell(folder, content)

    [(where, what)] = found(folder)
    assert (where, what.partition(",")[0]) == ("manifest.json", "Expected the keys of docs/data.md")


@pytest.mark.parametrize("change", [{"count": 13}, {"accepted": 1}, {"digest": "0" * 64}])
def test_a_manifest_that_does_not_add_up_is_found(folder: Path, change: dict[str, Any]) -> None:
    """The report would say that there are more samples than there are."""
    tell(folder, manifest(folder) | change)

    [(where, what)] = found(folder)
    assert where == "manifest.json"
    assert what.startswith(f"expected {next(iter(change))} ")


@pytest.mark.parametrize(("name", "value", "rows"), [("category", "../bolt", "part"), ("method", "paste", "stage")])
def test_a_manifest_of_other_samples_is_found(folder: Path, name: str, value: str, rows: str) -> None:
    """Samples of one part would be taken for another's, under digests that hold."""
    tell(folder, manifest(folder) | {name: value})

    assert {what for _, what in found(folder)} == {f"expected the {name} {value!r} by the manifest, found {rows!r}"}


def test_another_schema_version_is_not_guessed_at(folder: Path) -> None:
    """Columns would be taken for what they are not."""
    tell(folder, manifest(folder) | {"schema_version": "1"})

    [(where, what)] = found(folder)
    assert (where, what.startswith("Expected schema version 3, found '1'")) == ("manifest.json", True)


def test_a_path_that_leaves_the_folder_is_not_followed(folder: Path) -> None:
    """A data set from elsewhere could have any file of the machine read."""
    told = manifest(folder)
    told["shards"][0]["path"] = "../" + told["shards"][0]["path"]
    tell(folder, told)

    assert (told["shards"][0]["path"], "expected a path within the folder, found one that leaves it") in found(folder)


def test_other_columns_are_found(folder: Path) -> None:
    """A reader would miss a column in the middle of a training."""
    path = first_shard(folder)
    pq.write_table(pq.read_table(path).drop_columns(["licence"]), path)
    with_digests(folder)

    assert (f"shards/{path.name}", "schema version 3: expected licence as string, found none") in found(folder)


def without_mark(cell: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(cell["bytes"])).save(buffer, format="PNG", pnginfo=PngImagePlugin.PngInfo())
    cell["bytes"] = buffer.getvalue()


def with_another_pixel(cell: dict[str, Any]) -> None:
    picture = Image.open(io.BytesIO(cell["bytes"]))
    told = PngImagePlugin.PngInfo()
    for key, value in picture.info.items():
        told.add_text(key, value)
    changed = picture.point(lambda level: 255 - level)
    buffer = io.BytesIO()
    changed.save(buffer, format="PNG", pnginfo=told)
    cell["bytes"] = buffer.getvalue()


def cut_off(cell: dict[str, Any]) -> None:
    cell["bytes"] = cell["bytes"][: len(cell["bytes"]) // 2]


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (without_mark, "column {}: expected the PNG to say that it is synthetic and which sample it is, found {{}}"),
        (with_another_pixel, "column {}: expected pixels of digest"),
        (cut_off, "column {}: Expected a whole PNG"),
    ],
)
def test_a_wrong_picture_is_found_under_digests_that_hold(folder: Path, column: str, damage: Callable[[Any], None], what: str) -> None:
    """A mistake of the writer would be sealed by its own digests."""
    rewrite(folder, lambda rows: damage(rows[1][column]))

    [(where, told)] = found(folder)
    assert where == f"shards/{first_shard(folder).name}, sample stage/part/crack/000001/0"
    assert told.startswith(what.format(column))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sample_id": "stage/part/crack/000009/0"}, ["expected the id stage/part/crack/000001/0"]),
        ({"method": "paste"}, ["expected the id paste/part/crack/000001/0", "expected the next row of plan.parquet"]),
        ({"attempt": 1}, ["expected the id stage/part/crack/000001/1", "expected the next row of plan.parquet"]),
        ({"seed": 5}, ["expected the next row of plan.parquet, stage/part/crack/000001/0, found another value of seed"]),
        ({"background_sha256": "e" * 64}, ["expected a background among the training images"]),
        ({"source_sha256": "e" * 64}, ["expected a photograph of the generator's third"]),
        ({"mask_sha256": "e" * 64}, ["expected a mask of the generator's third"]),
        *(
            ({"choices": json.dumps(told)}, [what])
            for told, what in (
                ({"masks": [{"path": "m.png", "sha256": "e" * 64}]}, "expected a mask of the generator's third"),
                ({"places": [{"path": "m.png", "sha256": "e" * 64}]}, "expected a mask of the generator's third"),
                ({"missed": dict.fromkeys(MissedDefect._fields, "e" * 64)}, "expected a missed defect of the generator's third"),
                ({"missed": dict.fromkeys(MissedDefect._fields, "e" * 64)}, "expected a mask of the generator's third"),
                ({"masks": [{"path": "m.png"}]}, "expected choices that name their files"),
                ({"masks": [{"path": "m.png", "sha256": []}]}, "expected choices that name their files"),
                ([1], "expected choices that name their files"),
            )
        ),
        ({"choices": "{"}, ["expected choices that name their files by path and digest, found '{'"]),
        ({"checkpoint": "e" * 64}, ["expected its checkpoint and base in checkpoints.parquet"]),
        ({"checkpoint": "", "base": ""}, ["expected its checkpoint and base in checkpoints.parquet"]),
    ],
)
def test_a_wrong_value_is_found_under_digests_that_hold(folder: Path, change: dict[str, Any], what: list[str]) -> None:
    """A sample would lead to a photograph or a network that it was not made from, or have no plan."""
    rewrite(folder, lambda rows: rows[1].update(change))

    told = [told for _, told in found(folder)]
    assert all(any(one.startswith(expected) for one in told) for expected in what)
    assert all("000001" in where or "000009" in where for where, _ in found(folder))


def test_a_test_image_among_the_sources_of_a_sample_is_found(folder: Path) -> None:
    """The evaluation would be on images that the training has seen."""
    tested = pq.read_table(folder / "sources.parquet").to_pylist()
    digest = next(row["sha256"] for row in tested if row["role"] == "test" and row["kind"] == "image" and row["defect"] == "good")
    rewrite(folder, lambda rows: rows[0].update(background_sha256=digest))

    assert any(what.startswith("expected a background among the training images") for _, what in found(folder))


@pytest.mark.parametrize(
    ("source", "role", "is_wrong"),
    [("own", "background", False), ("own", "test", True), ("own", "", True), ("bank", "test", True), ("bank", "", False)],
)
def test_a_texture_from_the_wrong_side_is_found(folder: Path, source: str, role: str, is_wrong: bool) -> None:
    """A segmenter would learn the test's photographs as textures; a picture from a bank is in no table of sources, and may not be called wrong."""
    sources = pq.read_table(folder / "sources.parquet").to_pylist()
    digest = next((row["sha256"] for row in sources if row["role"] == role and row["kind"] == "image"), "e" * 64)
    rewrite(folder, lambda rows: rows[0].update(choices=json.dumps({"texture_path": "t.png", "texture_sha256": digest})))
    tell(folder, manifest(folder) | {"inputs": manifest(folder)["inputs"] | {"textures.source": json.dumps(source)}})

    assert any(what.startswith("expected a texture of the training side") for _, what in found(folder)) == is_wrong


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda rows: rows.pop(), "expected every planned sample in a shard"),
        (lambda rows: rows.append(rows[0]), "expected no more samples than plan.parquet has"),
        (lambda rows: rows.reverse(), "expected the next row of plan.parquet"),
    ],
)
def test_a_lost_a_doubled_and_a_moved_sample_are_found(folder: Path, change: Callable[[Rows], None], what: str) -> None:
    """Counts and digests would agree with each other, and not with what was planned."""
    rewrite(folder, change)

    assert any(told.startswith(what) for _, told in found(folder))


def bomb(cell: dict[str, Any]) -> None:
    """A PNG of 400 million pixels in a few bytes: its header alone says so."""
    header = struct.pack(">II", 20_000, 20_000) + cell["bytes"][24:29]
    cell["bytes"] = cell["bytes"][:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + cell["bytes"][33:]


def null_bytes(cell: dict[str, Any]) -> None:
    cell["bytes"] = None


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize(("damage", "what"), [(bomb, "column {}: Expected a whole PNG"), (null_bytes, "expected a value in every column")])
def test_a_hostile_picture_is_a_problem_and_no_traceback(folder: Path, column: str, damage: Callable[[Any], None], what: str) -> None:
    """Whoever checks a data set from elsewhere would be shown a fault of this program, or have the machine's memory filled."""
    rewrite(folder, lambda rows: damage(rows[1][column]))

    [(where, told)] = found(folder)
    assert where.endswith("sample stage/part/crack/000001/0")
    assert told.startswith(what.format(column))


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_null_in_any_column_is_a_problem_and_no_traceback(folder: Path, column: str) -> None:
    """A reader would stop at it in the middle of a training."""
    rewrite(folder, lambda rows: rows[1].update({column: None}))

    assert any(f"expected a value in every column, found none in {column}" in what for _, what in found(folder))


@pytest.mark.parametrize("value", [None, 0, -1, "", "x", [], {}, True, 1.5, "\0", "a" * 5000])
def test_a_sealed_manifest_of_other_values_is_a_problem_and_no_traceback(folder: Path, value: Any) -> None:
    """A manifest from elsewhere may say anything under a seal that fits."""
    told = manifest(folder)
    places = [(told, key) for key in told if key != "seal"] + [(told["shards"][0], key) for key in told["shards"][0]]
    places += [(told["tables"], "plan.parquet"), (told["tables"]["plan.parquet"], "sha256"), (told["tables"]["plan.parquet"], "rows")]
    places += [(told["shards"], 0)]
    for place, key in places:
        kept = place[key]
        place[key] = value
        tell(folder, told)
        free = value == kept or (key in {"method", "category", "job"} and isinstance(value, str)) or (key, value) == ("inputs", {})
        assert free or found(folder), key
        place[key] = kept
    for place, key in places[:-1]:
        kept = place.pop(key)
        tell(folder, told)
        assert found(folder), key
        place[key] = kept


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda table: table.append_column("more", table["licence"]), "expected no column more, found it"),
        (lambda table: table.set_column(0, table.column_names[0], pa.array([1] * len(table))), " as string, found int64"),
        (lambda table: table.select(table.column_names[::-1]), "expected the order "),
        (lambda table: table.replace_schema_metadata({"a": "b"}), "expected the same nullability and metadata"),
    ],
)
def test_a_difference_in_columns_is_named(folder: Path, spoil: Callable[[pa.Table], pa.Table], what: str) -> None:
    """A user would compare two lists of thirty columns by eye to see which one another tool has changed."""
    path = first_shard(folder)
    pq.write_table(spoil(pq.read_table(path)), path)
    with_digests(folder)

    assert any(what in told for where, told in found(folder) if where == f"shards/{path.name}")


@pytest.mark.parametrize("name", ["plan.parquet", "sources.parquet", "checkpoints.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_table_of_other_columns_is_a_problem_and_no_traceback(folder: Path, name: str, content: bytes | None) -> None:
    """A table that does not fit its manifest's digest is found; one that does would be trusted to have its columns."""
    if content is None:
        pq.write_table(pa.table({"a": [1, 2]}), folder / name)
    else:
        (folder / name).write_bytes(content)
    told = manifest(folder)
    told["tables"][name]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    tell(folder, told)

    assert [where for where, _ in found(folder)][:1] == [name]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_to_a_resealed_file_is_no_traceback(published: Path, data: st.DataObject) -> None:
    """A file from elsewhere may hold anything under digests that fit: of what the format allows, and of what it does not."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(published, Path(place) / "out"))
        told = manifest(folder)
        entries = {**{shard["path"]: shard for shard in told["shards"]}, **told["tables"]}
        name = data.draw(st.sampled_from(sorted(entries)))
        content = bytearray((folder / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content))) or None])
        entries[name]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        tell(folder, told)

        assert all(what for _, what in found(folder))
        assert foreign_files(folder) == []


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_bytes_of_a_png_are_a_traceback(data: st.DataObject) -> None:
    """Pillow raises a dozen kinds of errors on bytes that are not quite a PNG."""
    png = bytearray(encode_png(np.arange(300, dtype=np.uint8).reshape(10, 10, 3), {"Synthetic": "true"}))
    for _ in range(data.draw(st.integers(1, 6))):
        png[data.draw(st.integers(0, len(png) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CorruptFileError):
        assert decode_image(bytes(png[: data.draw(st.integers(0, len(png))) or None])).dtype == np.uint8


@pytest.mark.parametrize("name", [".DS_Store", "shards/._crack.parquet", "Thumbs.db", "notes.txt", "shards/.x/deep", "shards/half.parquet"])
def test_a_file_that_no_reader_takes_for_samples_is_no_damage(folder: Path, name: str) -> None:
    """Every copy that went over a USB stick would count as damaged."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    (folder / "README.md").write_text("My own words.")

    assert found(folder) == []
    assert foreign_files(folder) == [name]


def test_it_needs_no_model() -> None:
    """Whoever receives a data set would have to install networks to check it."""
    code = "import sys; import stage.release.verification; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])

    assert done.stdout.strip() == "False"
