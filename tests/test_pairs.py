"""Pictures in Parquet: nothing is lost, nothing is decoded before it is asked for, other tools read them."""

import io
import mmap
import resource
import signal
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from stage.core.errors import CorruptFileError
from stage.datasets.columns import INTEGER, INTEGERS, NUMBER, PICTURE, STRING, schema
from stage.datasets.examples import DecodedColumn
from stage.datasets.pairs import Pairs, decode_image, decode_mask, encode_png, image_cell, image_columns, write_table

COLUMNS = {"name": STRING, **image_columns()}


def picture(seed: int, height: int = 9, width: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8), random.integers(0, 2, (height, width), dtype=np.uint8)


def shard(path: Path, seeds: range) -> Path:
    pairs = {seed: picture(seed) for seed in seeds}
    rows = ({"name": str(seed), "image": image_cell(image), "mask": image_cell(mask)} for seed, (image, mask) in pairs.items())
    write_table(rows, COLUMNS, path)
    return path


def test_png_gives_back_the_pixels() -> None:
    """A lossy cell would change the normal images that synthetic ones must equal byte for byte."""
    image, mask = picture(0)

    assert np.array_equal(decode_image(encode_png(image)), image)
    assert np.array_equal(decode_mask(encode_png(mask)), mask)


def test_mask_is_stored_as_0_and_255() -> None:
    """A mask of 0 and 1 looks black in every viewer."""
    stored = np.asarray(Image.open(io.BytesIO(encode_png(np.array([[0, 1]], np.uint8)))))

    assert stored.tolist() == [[0, 255]]


def test_text_is_in_the_png_and_the_bytes_are_the_same_each_time() -> None:
    """Samples would not say that they are synthetic, or their digests would change from run to run."""
    image, _ = picture(1)
    text = {"Synthetic": "yes", "Origin": "Prüfling 7"}

    with Image.open(io.BytesIO(encode_png(image, text))) as opened:
        assert opened.info == text
    assert encode_png(image, text) == encode_png(image, text)
    assert np.array_equal(decode_image(encode_png(image, text)), image)


@pytest.mark.parametrize("pixels", [np.full((2, 2), 255, np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3))])
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    """A 0/255 mask taken for 0/1 would wrap around to 0 and 1, black."""
    with pytest.raises(ValueError, match="Expected an image"):
        encode_png(pixels)


def test_pairs_come_back_in_order_over_files(tmp_path: Path) -> None:
    """A mask would be shown beside another image."""
    pairs = Pairs.read([shard(tmp_path / "b.parquet", range(20)), shard(tmp_path / "a.parquet", range(20, 23))], None)

    assert len(pairs) == 23
    assert pairs.table["name"].to_pylist() == [str(seed) for seed in range(23)]
    for seed, pair in enumerate(pairs):
        image, mask = picture(seed)
        assert np.array_equal(pair.image, image)
        assert np.array_equal(pair.mask, mask)
    assert np.array_equal(pairs[-1].image, picture(22)[0])
    assert np.array_equal(pairs[5:8][1].image, picture(6)[0])
    with pytest.raises(IndexError):
        pairs[23]


def test_rows_are_picked_from_any_amount_of_pictures() -> None:
    """A large category would end with an error of pyarrow's: the cells of one of its arrays hold 2 GiB at most."""
    cells = [encode_png(part) for seed in range(3) for part in picture(seed)]

    def with_begin(png: bytes) -> mmap.mmap:
        large = mmap.mmap(-1, 2**30)  # pages that nobody writes take no memory
        large[: len(png)] = png
        return large

    def column(png: bytes) -> pa.Array:
        ends = pa.py_buffer(np.array([0, len(png), 2**30], np.int32).tobytes())
        content = pa.Array.from_buffers(pa.binary(), 2, [None, ends, pa.py_buffer(with_begin(png))])
        return pa.StructArray.from_arrays([content, pa.nulls(2, pa.string())], fields=[*PICTURE])

    table = pa.table({name: pa.chunked_array([column(png) for png in cells[k::2]]) for k, name in enumerate(("image", "mask"))})
    pairs = Pairs(table)

    for picked in (pairs.rows([4, 0]), pairs[4::-4]):
        assert [pair.image.tolist() for pair in picked] == [picture(seed)[0].tolist() for seed in (2, 0)]
    assert len(pairs.rows([])) == len(pairs[3:3]) == 0
    assert np.array_equal(DecodedColumn(table["mask"], decode_mask)[2:3][0], picture(1)[1])


def test_where_selects_rows_and_rows_without_pixels_are_left_out(tmp_path: Path) -> None:
    """A set-aside image would reach training."""
    image, mask = picture(0)
    rows = [{"name": name, "image": image_cell(image), "mask": image_cell(mask)} for name in ("a", "b")]
    write_table([*rows, {"name": "aside", "image": None, "mask": None}], COLUMNS, tmp_path / "t.parquet")

    assert Pairs.read([tmp_path / "t.parquet"], None).table["name"].to_pylist() == ["a", "b"]
    assert Pairs.read([tmp_path / "t.parquet"], pc.field("name") != "a").table["name"].to_pylist() == ["b"]


def test_a_broken_cell_is_met_only_when_it_is_asked_for(tmp_path: Path) -> None:
    """Opening a shard would decode all of it."""
    image, mask = picture(0)
    whole = {"name": "whole", "image": image_cell(image), "mask": image_cell(mask)}
    broken = {**whole, "image": {"bytes": encode_png(image)[:50], "path": None}}
    write_table([whole, broken], COLUMNS, tmp_path / "t.parquet")
    pairs = Pairs.read([tmp_path / "t.parquet"], None)

    assert np.array_equal(pairs[0].image, image)
    with pytest.raises(CorruptFileError, match="Expected a whole PNG, found 50 bytes"):
        pairs[1]


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    """A user would see a traceback of pyarrow without the file's name."""
    path = shard(tmp_path / "t.parquet", range(3))
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(CorruptFileError, match=r"t\.parquet.*dvc repro"):
        Pairs.read([path], None)
    with pytest.raises(CorruptFileError, match=r"none\.parquet, found none"):
        Pairs.read([tmp_path / "none.parquet"], None)
    with pytest.raises(ValueError, match="at least one"):
        Pairs.read([], None)


def test_the_same_rows_give_the_same_file_in_small_row_groups(tmp_path: Path) -> None:
    """DVC would see a change where there is none, or one sample could not be read without its neighbours."""
    first, second = shard(tmp_path / "1.parquet", range(40)), shard(tmp_path / "2.parquet", range(40))

    assert first.read_bytes() == second.read_bytes()
    assert [pq.ParquetFile(first).metadata.row_group(group).num_rows for group in range(3)] == [16, 16, 8]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A shard would be half written, or gone."""
    path = shard(tmp_path / "t.parquet", range(2))
    before = path.read_bytes()

    with pytest.raises(OSError, match="large"):
        _write_with_full_disk(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["t.parquet"]


def _write_with_full_disk(path: Path) -> None:
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        shard(path, range(30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_hugging_face_datasets_decodes_the_pictures(tmp_path: Path) -> None:
    """Users of `load_dataset` would get dictionaries of bytes instead of images."""
    shard(tmp_path / "t.parquet", range(3))

    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "t.parquet"), split="train", cache_dir=str(tmp_path / "cache"))

    for seed, row in enumerate(loaded):
        image, mask = picture(seed)
        assert isinstance(row["image"], Image.Image)
        assert np.array_equal(np.asarray(row["image"]), image)
        assert np.array_equal(np.asarray(row["mask"]), mask * 255)


def test_the_schema_is_that_of_the_library_which_reads_it() -> None:
    """Users of `load_dataset` would get other types than were written, or dictionaries of bytes in place of images."""
    columns = {"a": STRING, "b": INTEGER, "c": NUMBER, "d": INTEGERS, "e": PICTURE}
    features = Features({"a": Value("string"), "b": Value("int64"), "c": Value("float64"), "d": List(Value("int32")), "e": ImageFeature()})

    assert schema(columns).equals(features.arrow_schema, check_metadata=True)
    assert Features.from_arrow_schema(schema(columns)) == features
