"""The maps of where on the part defects lie: in the part's own coordinates, real ones and each method's alike."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published import EDGE, part_mask, publish

from stage.datasets.pairs import image_cell
from stage.report import whereabouts
from stage.report.whereabouts import DEFECT, PART, write_whereabouts

SCALE = whereabouts.EDGE / (whereabouts.SPAN * 28 / np.sqrt(12))  # px of a map per px of the photograph, whose part is a bar of 28 px


@pytest.fixture
def data(tmp_path: Path) -> Path:
    publish(tmp_path / "data", ["part"], ["hole"])
    return tmp_path / "data"


def maps_of(data: Path) -> dict[str, np.ndarray]:
    """The pictures of the maps by origin, as they are written."""
    found = write_whereabouts(data, "part", ["stage", "paste"], root=data, folder=Path("maps"))
    return {one.made_by: np.asarray(Image.open(data / one.address)).astype(float) for one in found.types["hole"]}


def place(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Row and column of the middle of all pixels of a colour, and up to ten levels near it."""
    return np.argwhere(np.abs(picture - colour).max(axis=2) < 10).mean(axis=0)


def test_a_defect_is_drawn_where_on_the_part_it_lies(data: Path) -> None:
    """A map would show places in the photograph. The middle of the squares is 6 px from the bar's, along it, and 1 or 2 px across."""
    pictures = maps_of(data)

    assert list(pictures) == ["real", "stage", "paste"]
    for picture in pictures.values():
        part = np.argwhere((picture < 240).any(axis=2))
        across, along = np.abs(place(picture, DEFECT) - (part.min(0) + part.max(0)) / 2)
        assert along == pytest.approx(6 * SCALE, abs=1.5)
        assert across < 2 * SCALE


def test_maps_of_the_same_masks_are_the_same(data: Path) -> None:
    """A difference between two maps would be one of drawing. Both methods' samples have the same masks here."""
    pictures = maps_of(data)

    assert np.array_equal(pictures["stage"], pictures["paste"])


def test_a_turned_photograph_gives_the_same_map(data: Path) -> None:
    """Defects on screws that lie at any angle would be smeared over the whole map. One of the real photographs is turned by half a turn."""
    before = maps_of(data)["real"]
    path = data / "prepare/part/catalog.parquet"
    rows = pq.read_table(path).to_pylist()
    turned = next(row for row in rows if row["defect"] == "hole" and row["split"] == "train")
    for name, is_mask in (("image", False), ("mask", True), ("foreground", True)):
        with Image.open(pa.BufferReader(turned[name]["bytes"])) as picture:
            pixels = np.asarray(picture.rotate(180))
        turned[name] = image_cell((pixels > 0).astype(np.uint8) if is_mask else pixels)
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)

    assert np.abs(maps_of(data)["real"] - before).max() < 8


def test_the_share_on_the_part_is_told(data: Path) -> None:
    """A method whose masks float beside the part would pass for one that places them. The bar takes half of a square's four rows away."""
    path = data / "prepare/part/catalog.parquet"
    rows = pq.read_table(path).to_pylist()
    half = part_mask()
    half[:10] = 0  # the squares begin in the rows 8, 9 and 10
    for row in rows:
        row["foreground"] = row["foreground"] and image_cell(half)
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    found = write_whereabouts(data, "part", ["paste"], root=data, folder=Path("maps"))

    assert {one.made_by: one.on_part for one in found.types["hole"]} == pytest.approx({"real": (2 + 3) / 8, "paste": (2 + 3 + 4) / 12})


def test_without_a_part_the_map_is_of_the_image(data: Path) -> None:
    """A report on cloth would have no maps, or claim a part."""
    path = data / "prepare/part/catalog.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["foreground"] = row["foreground"] and image_cell(np.ones((EDGE, EDGE), np.uint8))
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    found = write_whereabouts(data, "part", ["paste"], root=data, folder=Path("maps"))
    [real, _] = found.types["hole"]
    picture = np.asarray(Image.open(data / real.address)).astype(float)

    assert not found.of_part
    assert picture.shape == (whereabouts.EDGE, whereabouts.EDGE, 3)
    assert np.abs(picture[5, 5] - PART).max() < 10
    assert place(picture, DEFECT) == pytest.approx(np.array([10, 9.5]) * whereabouts.EDGE / EDGE, abs=2)
