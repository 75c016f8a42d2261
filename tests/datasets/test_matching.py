"""A mask belongs to its photograph: joined, turned with it, and doubted where its place or its shape contradicts it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stage.core.data_params import FolderRule, Prepare
from stage.datasets.catalog import prepare
from stage.datasets.images import Raster, read_image
from stage.datasets.matching import UPRIGHT
from stage.datasets.summary import Summary
from stage.datasets.table import read_catalog

NUMBERS = range(7)


def rows(params: Prepare, root: Path, output: Path, **changes: object) -> pd.DataFrame:
    prepare(params.model_copy(update=changes), ["part"], root, output)
    return read_catalog(output / "part/catalog.parquet").set_index("image_path")


def summary_of(params: Prepare, root: Path, output: Path) -> Summary:
    return prepare(params, ["part"], root, output)


def cracks(params: Prepare, root: Path, output: Path) -> pd.DataFrame:
    catalog = rows(params, root, output)
    return catalog[catalog["defect"] == "crack"]


def turned_photograph(folder: Path, number: int, size: tuple[int, int], orientation: int) -> np.ndarray:
    """A photograph as the camera stored it, with a red corner; returns where the stored picture is red."""
    pixels, red = np.random.default_rng(number).integers(0, 90, (*size, 3), dtype=np.uint8), np.zeros(size, np.uint8)
    red[2:8, 2:8] = 1
    pixels[red > 0] = (250, 10, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / f"{number:03}.png").unlink()
    Image.fromarray(pixels).save(folder / f"{number:03}.png", exif=exif)
    return red


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_of_the_stored_size_is_turned_with_its_photograph(params: Prepare, mvtec: Path, tmp_path: Path, orientation: int) -> None:
    """The mask would lie beside the defect: the photograph was turned, and the mask was not."""
    for number in NUMBERS:
        red = turned_photograph(mvtec / "part/test/crack", number, (24, 32), orientation)
        Image.fromarray(255 * red).save(mvtec / f"part/ground_truth/crack/{number:03}_mask.png")
    found = cracks(params, mvtec, tmp_path / "out")

    assert (found["reason"] == "").all()
    assert (
        found["note"]
        .str.contains(f"turned by the photograph's EXIF orientation {orientation}" if orientation > 4 else "look whether")
        .all()
    )


def test_turning_is_pillows(tmp_path: Path) -> None:
    """A mask would be turned the other way round."""
    for orientation, turn in UPRIGHT.items():
        exif, pixels = Image.Exif(), np.arange(6, dtype=np.uint8).reshape(2, 3)
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        raster: Raster = read_image(tmp_path / "a.png", max_megapixels=1)

        assert raster.pixels[..., 0].tolist() == np.array(Image.fromarray(pixels).transpose(turn)).tolist()


def test_an_upright_mask_needs_no_note_and_a_square_one_does(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Nobody would look at the masks that may lie on their side."""
    for number in NUMBERS:
        size = (24, 24) if number else (24, 32)
        red = turned_photograph(mvtec / "part/test/crack", number, size, 6)
        Image.fromarray(255 * np.rot90(red, -1)).save(mvtec / f"part/ground_truth/crack/{number:03}_mask.png")
    notes = cracks(params, mvtec, tmp_path / "out")["note"].tolist()

    assert notes[0] == ""
    assert all("EXIF orientation is 6, the mask's 1" in note for note in notes[1:])


def test_what_may_lie_on_its_side_stands_first_in_the_summary(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A screen of harmless notes would hide that masks may not lie on their defects."""
    for number in NUMBERS:
        red = turned_photograph(mvtec / "part/test/crack", number, (24, 24), 6)
        Image.fromarray(255 * red).save(mvtec / f"part/ground_truth/crack/{number:03}_mask.png")
    for number in range(4):
        (mvtec / f"part/test/spot/{number:03}.png").write_bytes(b"")
    Image.new("RGBA", (32, 24), (9, 9, 9, 9)).save(mvtec / "part/test/good/000.png")
    table, warnings = summary_of(params, mvtec, tmp_path / "out")

    assert warnings[0].startswith("part, crack: 7 x mask: the photograph's EXIF orientation is 6, the mask's 1")
    assert "look whether it does" in warnings[0]
    assert table.set_index("defect")["noted"]["crack"] == 7


def test_reasons_and_notes_are_counted_whatever_the_files_are_called(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A mistake that all masks share would be told as a hundred different ones."""
    for number in range(3):
        Image.new("L", (32, 24 + number), 255).save(mvtec / f"part/ground_truth/crack/{number:03}_mask.png")
        Image.new("L", (30, 24 + number), 255).save(mvtec / f"part/ground_truth/spot/{number:03}_mask.png")
    for number, shade in enumerate((3, 5)):
        picture = Image.new("RGBA", (32, 24), (9 * shade, 9, 9, 255))
        picture.paste((8, 8, 8, 0), (0, 0, shade, 1))
        picture.save(mvtec / f"part/test/good/{number:03}.png")
    _, warnings = summary_of(params, mvtec, tmp_path / "out")

    assert "part, spot: 3 set aside: its mask: another size than the image's: they must be equal" in warnings
    assert "part, good: 2 x alpha dropped, … pixels were not opaque" in warnings


def test_inverted_masks_are_set_aside(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The ground would be trained on as defect."""
    path = mvtec / "part/ground_truth/crack/001_mask.png"
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    found = cracks(params, mvtec, tmp_path / "out")

    assert "all of its border, so it looks inverted" in found["reason"].iloc[1]
    assert found["detail"].iloc[1] == "001_mask.png: 93.8% of the image"
    assert (found["reason"] == "").sum() == 6


def test_the_share_of_defect_is_told_and_doubted(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Masks of another kind than meant would show up in no number before the metrics. 48 of 768 px are 6.25 %."""
    for number in NUMBERS:
        Image.fromarray(np.repeat(np.array([[255] * 24 + [0] * 8], np.uint8), 24, 0)).save(
            mvtec / f"part/ground_truth/crack/{number:03}_mask.png"
        )
    table, warnings = summary_of(params, mvtec, tmp_path / "out")

    assert table.set_index("defect")["defect_percent"].dropna().to_dict() == {"crack": 75.0, "spot": 6.25}
    assert warnings[0].startswith("part, crack: the median mask marks 75 % of its image as defect.")
    assert warnings[1] == "part, crack: 7 x mask: marks 75.0% of the image"


def test_masks_beside_normal_images_are_no_photographs(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Black masks would be trained on as normal images."""
    for number in range(4):
        Image.new("L", (32, 24)).save(mvtec / f"part/train/good/{number:03}_mask.png")
    catalog = rows(params, mvtec, tmp_path / "out")

    assert sorted(catalog[catalog["split"] == "train"].filter(like="train/good", axis=0).index) == [
        f"part/train/good/{number:03}.png" for number in range(4)
    ]


def test_a_marked_mask_beside_a_normal_image_sets_it_aside(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A defective image in the wrong folder would be trained on as normal."""
    Image.new("L", (32, 24), 255).save(mvtec / "part/train/good/002_mask.png")

    assert "normal by its place" in rows(params, mvtec, tmp_path / "out").loc["part/train/good/002.png", "reason"]


def test_a_normal_image_of_one_colour_is_no_photograph(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A mask by another name, or a shot with the lamp off, would be trained on as normal."""
    Image.new("RGB", (32, 24)).save(mvtec / "part/train/good/002.png")

    assert "one colour everywhere" in rows(params, mvtec, tmp_path / "out").loc["part/train/good/002.png", "reason"]


@pytest.mark.parametrize("layout", ["loco", "folder"])
def test_several_masks_of_an_image_are_joined(params: Prepare, mvtec: Path, tmp_path: Path, layout: str) -> None:
    """MVTec LOCO AD could not be read, nor any data set with a file per defect."""
    for number in NUMBERS:
        whole = mvtec / f"part/ground_truth/crack/{number:03}_mask.png"
        (mvtec / f"part/ground_truth/crack/{number:03}").mkdir()
        second = np.zeros((24, 32), np.uint8)
        second[20:22, 20:24] = 250
        Image.fromarray(second).save(mvtec / f"part/ground_truth/crack/{number:03}/001.png")
        whole.rename(mvtec / f"part/ground_truth/crack/{number:03}/000.png")
    rule = FolderRule(
        normal="part/train/good/{name}.*",
        test_normal="",
        image="part/test/{defect}/{name}.*",
        mask="part/ground_truth/{defect}/{name}/*.png",
        groups="",
        foreground="",
    )
    found = rows(params, mvtec, tmp_path / "out", layout=layout, folder=rule).loc["part/test/crack/001.png"]

    assert found[["reason", "note", "defect_area"]].tolist() == ["", "mask: joined from 2 files", 48 + 8]
    assert found["mask_path"] == "part/ground_truth/crack/001"


def test_masks_without_the_suffix_are_read_with_a_note(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Every image would be set aside, for a name that the user could not guess."""
    for number in NUMBERS:
        (mvtec / f"part/ground_truth/crack/{number:03}_mask.png").rename(mvtec / f"part/ground_truth/crack/{number:03}.png")
    found = cracks(params, mvtec, tmp_path / "out")

    assert set(found["note"]) == {"its mask's name lacks the layout's `_mask`"}
    assert (found["reason"] == "").all()
