"""Preparing a data set: what comes out for good files, and a reason for each bad one."""

import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from test_survey import unprivileged

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.catalog import prepare
from stage.datasets.pairs import Pairs, decode_mask
from stage.datasets.recalled import Recall
from stage.datasets.summary import summary_table
from stage.datasets.table import read_catalog

CRACK, MASK = "test/crack/001.png", "ground_truth/crack/001_mask.png"


def catalog_of(params: Prepare, root: Path, output: Path) -> pd.DataFrame:
    prepare(params, ["part"], root, output)
    return read_catalog(output / "part/catalog.parquet")


def set_aside(catalog: pd.DataFrame) -> dict[str, str]:
    aside = catalog[catalog["status"] == "set_aside"]
    return {row["image_path"]: " | ".join(filter(None, (row["reason"], row["detail"]))) for row in aside.to_dict("records")}


def test_a_row_says_what_an_image_is(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The plan, the leak guard and the report read these columns."""
    row = catalog_of(params, mvtec, tmp_path / "out").set_index("image_path").loc[f"part/{CRACK}"]

    assert row[["category", "defect", "source_split", "split", "mode", "status", "reason", "note"]].tolist() == [
        *("part", "crack", "test", "train", "RGB", "accepted", "", "")
    ]
    assert row[["width", "height", "defect_area"]].tolist() == [32, 24, 48]
    assert row["mask_path"] == f"part/{MASK}"
    assert row["group"] == f"part/{CRACK}"
    assert row["licence"] == "CC0-1.0"
    assert row["image_sha256"] == _sha256sum(mvtec / "part" / CRACK)
    assert row["mask_sha256"] == _sha256sum(mvtec / "part" / MASK)


def _sha256sum(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_pixels_are_prepared_squares_and_normal_masks_are_empty(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """Training would get images of mixed sizes. 6 x 8 px of 24 x 32 are 4 x 4 cells of 16 x 16."""
    catalog_of(params, mvtec, tmp_path / "out")
    defects = Pairs.read([tmp_path / "out/part/catalog.parquet"], (pc.field("defect") == "crack") & (pc.field("split") == "train"))
    normals = Pairs.read([tmp_path / "out/part/catalog.parquet"], pc.field("defect") == "good")

    assert (len(defects), len(normals)) == (2, 6)
    assert {pair.image.shape for pair in (*defects, *normals)} == {(16, 16, 3)}
    assert [np.argwhere(pair.mask).min(0).tolist() for pair in defects] == [[4, 4]] * 2
    assert [pair.mask.sum() for pair in defects] == [16, 16] == defects.table["prepared_area"].to_pylist()
    assert not any(pair.mask.any() for pair in normals)


def test_a_catalog_does_not_depend_on_other_categories(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """One new photograph would make every category's samples again."""
    shutil.copytree(mvtec / "part", mvtec / "other")
    for output in ("before", "after"):
        prepare(params, ["part", "other"], mvtec, tmp_path / output)
        (mvtec / "part" / CRACK).unlink(missing_ok=True)
    before, after = (
        {name: (tmp_path / output / name / "catalog.parquet").read_bytes() for name in ("part", "other")} for output in ("before", "after")
    )

    assert before["other"] == after["other"]
    assert before["part"] != after["part"]


def test_the_summary_counts_what_was_read(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A user would believe that all images are in use."""
    (mvtec / "part" / CRACK).write_bytes(b"")
    summary, _ = prepare(params, ["part"], mvtec, tmp_path / "out")
    shown = io.StringIO()
    Console(width=100, file=shown).print(summary_table(summary))

    assert summary[["defect", "accepted", "train", "test", "set_aside"]].to_numpy().tolist() == [
        ["crack", 6, 2, 4, 1],
        ["good", 6, 4, 2, 0],
        ["spot", 4, 1, 3, 0],
    ]
    assert json.loads((tmp_path / "out/summary.json").read_text())["part"]["crack"]["set_aside"] == 1
    assert (
        tmp_path / "out/set_aside.csv"
    ).read_text() == 'category,path,reason,detail\npart,part/test/crack/001.png,"the file is empty, 0 bytes",\n'
    assert all(word in shown.getvalue() for word in ("crack", "good", "spot", "set aside"))


def truncate(name: str) -> Callable[[Path], None]:
    def spoil(part: Path) -> None:
        whole = (part / name).read_bytes()
        (part / name).write_bytes(whole[: len(whole) - 30])

    return spoil


def paint(name: str, mode: str, size: tuple[int, int], colour: int = 0) -> Callable[[Path], None]:
    return lambda part: Image.new(mode, size, colour).save(part / name)


def copy(source: str, target: str) -> Callable[[Path], None]:
    def spoil(part: Path) -> None:
        (part / target).parent.mkdir(exist_ok=True)
        shutil.copy(part / source, part / target)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "path", "reason"),
    [
        (truncate(CRACK), CRACK, "truncated or damaged"),
        (truncate(MASK), CRACK, "its mask: truncated or damaged, it does not decode | 001_mask.png: "),
        (paint(CRACK, "RGB", (1001, 1000)), CRACK, "larger than prepare.max_megapixels, 1"),
        (paint("train/good/009.tif", "F", (32, 24)), "train/good/009.tif", "32 bits"),
        (paint(MASK, "L", (32, 23), 255), CRACK, "must be equal | 001_mask.png: 32x23 pixels, the image 32x24"),
        (paint(MASK, "L", (1001, 1000), 255), CRACK, "its mask: larger than"),
        (paint(MASK, "L", (32, 24), 0), CRACK, "its mask: marks no defect"),
        (lambda part: (part / MASK).unlink(), CRACK, "has no mask"),
        (lambda part: (part / "train/good/002.png").write_bytes(b"text"), "train/good/002.png", "not an image"),
        (
            copy("train/good/000.png", "train/good/009.png"),
            "train/good/009.png",
            "the same bytes as another file, which is kept | part/train/good/000.png",
        ),
        (
            copy("test/good/000.png", "train/good/009.png"),
            "train/good/009.png",
            "the same bytes as another file, which is kept | part/test/good/000.png",
        ),
        (
            copy("ground_truth/crack/000_mask.png", "ground_truth/good/000_mask.png"),
            "test/good/000.png",
            "normal by its place | 000_mask.png: 48 pixels",
        ),
    ],
)
def test_each_bad_file_is_set_aside_alone_with_its_reason(
    params: Prepare, mvtec: Path, tmp_path: Path, spoil: Callable[[Path], None], path: str, reason: str
) -> None:
    """One bad file would end the night's run, or be trained on."""
    spoil(mvtec / "part")
    found = set_aside(catalog_of(params, mvtec, tmp_path / "out"))

    assert list(found) == [f"part/{path}"]
    assert reason in found[f"part/{path}"]


def test_a_file_that_changes_while_it_is_read_is_set_aside(
    params: Prepare, mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a photograph that is still being copied would be trained on, under the digest of another file."""
    opening = Image.open

    def written_meanwhile(path: Any, *more: Any, **named: Any) -> Image.Image:
        if isinstance(path, Path) and path.name == "001.png":
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        return opening(path, *more, **named)

    monkeypatch.setattr("PIL.Image.open", written_meanwhile)
    found = set_aside(catalog_of(params, mvtec, tmp_path / "out"))

    assert f"part/{CRACK}" in found
    assert set(found.values()) == {"changed while it was read: run again when nothing writes there"}


RECALLED = Recall(kind="image", path="part/train/good/9.png", sha256="0" * 64, reason="a scratch", date="2026-01-01")


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("nothing"), os.mkfifo])
def test_a_recalled_file_that_is_none_is_set_aside(params: Prepare, mvtec: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """The run would end with a traceback, or wait for ever."""
    make(mvtec / RECALLED.path)
    prepare(params, ["part"], mvtec, tmp_path / "out", [RECALLED])

    assert [*set_aside(read_catalog(tmp_path / "out/part/catalog.parquet"))] == [RECALLED.path]


def test_a_recalled_file_that_may_not_be_read_is_set_aside(params: Prepare, mvtec: Path) -> None:
    """The run would end with a traceback."""
    with TemporaryDirectory() as home:
        shutil.copytree(mvtec, Path(home, "data"))
        Path(home).chmod(0o777)
        shutil.copy(mvtec / "part/train/good/000.png", Path(home, "data", RECALLED.path))
        Path(home, "data", RECALLED.path).chmod(0)
        with unprivileged():
            prepare(params, ["part"], Path(home, "data"), Path(home, "out"), [RECALLED])
        found = set_aside(read_catalog(Path(home, "out/part/catalog.parquet")))

    assert found == {RECALLED.path: "a file that cannot be read | 9.png: Permission denied"}


def test_a_mask_without_an_image_has_a_row_of_its_own(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A deleted or misnamed image would leave no trace."""
    (mvtec / "part" / CRACK).unlink()
    catalog = catalog_of(params, mvtec, tmp_path / "out")
    row = catalog[catalog["status"] == "set_aside"].iloc[0]

    assert (row["mask_path"], row["reason"], row["defect"]) == (f"part/{MASK}", "a mask without an image of its name", "crack")
    assert pd.isna(row["image_path"])
    assert (tmp_path / "out/set_aside.csv").read_text().splitlines()[1].startswith(f"part,part/{MASK},")


def test_a_type_with_two_images_is_set_aside_and_the_rest_goes_on(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A rare defect type would stop the whole category."""
    for number in (2, 3):
        (mvtec / f"part/test/spot/{number:03}.png").unlink()
        (mvtec / f"part/ground_truth/spot/{number:03}_mask.png").unlink()
    catalog = catalog_of(params, mvtec, tmp_path / "out")

    assert set(set_aside(catalog).values()) == {"its defect type spot has 2 usable images, and a split takes 3"}
    assert set(catalog[catalog["split"] == "train"]["defect"]) == {"crack", "good"}


def test_conversions_are_noted_and_accepted(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A 16-bit image or a label map would be set aside, or used without a word."""
    Image.fromarray(np.full((24, 32), 30000, np.uint16)).save(mvtec / "part" / CRACK)
    Image.fromarray(np.eye(24, 32, dtype=np.uint8)).save(mvtec / "part" / MASK)
    row = catalog_of(params, mvtec, tmp_path / "out").set_index("image_path").loc[f"part/{CRACK}"]

    assert row["status"] == "accepted"
    assert row["mode"] == "I;16"
    assert row["note"] == "16 bits a pixel, 0 is black and 65535 white; mask: a mask of labels 1: every one but 0 is defect"


def with_files(params: Prepare) -> Prepare:
    return params.model_copy(update={"foreground": params.foreground.model_copy(update={"strategy": "files"})})


@pytest.fixture
def drawn(mvtec: Path, draw: Callable[..., Path]) -> Path:
    """The data set, each normal training image with a foreground file of 6 x 8 of 24 x 32 px."""
    for number in range(4):
        draw(f"part/foreground/{number:03}.png", is_mask=True)
    return mvtec


def test_foregrounds_are_read_from_files(params: Prepare, drawn: Path, tmp_path: Path) -> None:
    """A user who has drawn the objects would get others. 6 x 8 px of 24 x 32 are 4 x 4 cells of 16 x 16: a sixteenth."""
    catalog = catalog_of(with_files(params), drawn, tmp_path / "out")
    normal = catalog[(catalog["defect"] == "good") & (catalog["split"] == "train")]
    cells = pq.read_table(tmp_path / "out/part/catalog.parquet", filters=pc.field("image_path").isin(normal["image_path"]))["foreground"]

    assert normal[["foreground_strategy", "foreground_coverage", "foreground_note"]].to_numpy().tolist() == [["files", 1 / 16, ""]] * 4
    for cell in cells.to_pylist():
        assert np.argwhere(decode_mask(cell["bytes"])).min(0).tolist() == [4, 4]


def test_normal_training_images_and_defective_ones_have_a_foreground(params: Prepare, drawn: Path, tmp_path: Path) -> None:
    """A column would be half full, and nobody could say of what."""
    for chosen in (params, with_files(params)):
        catalog = catalog_of(chosen, drawn, tmp_path / chosen.foreground.strategy)
        has = catalog[["foreground_strategy", "foreground_coverage", "foreground_note"]].notna()
        stored = pq.read_table(tmp_path / chosen.foreground.strategy / "part/catalog.parquet")["foreground"].is_valid().to_pylist()

        has_one = (catalog["defect"] == "good") & (catalog["split"] == "train")
        if chosen.foreground.strategy == "threshold":
            has_one |= (catalog["defect"] != "good") & (catalog["status"] == "accepted")
        assert all((has[name] == has_one).all() for name in has)
        assert stored == has_one.tolist()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda part: (part / "foreground/002.png").unlink(),
            "one foreground file of its name for prepare.foreground.strategy files | found none",
        ),
        (copy("foreground/002.png", "foreground/002.bmp"), "found part/foreground/002.bmp and part/foreground/002.png"),
        (paint("foreground/002.png", "L", (32, 23), 255), "| 002.png: 32x23 pixels, the image 32x24"),
        (truncate("foreground/002.png"), "its foreground: truncated or damaged"),
    ],
)
def test_a_bad_foreground_file_sets_its_image_aside(
    params: Prepare, drawn: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """Defects would be placed by the object of another image, or anywhere, without a word."""
    spoil(drawn / "part")
    found = set_aside(catalog_of(with_files(params), drawn, tmp_path / "out"))

    assert list(found) == ["part/train/good/002.png"]
    assert reason in found["part/train/good/002.png"]


def test_an_empty_foreground_file_means_the_whole_image(params: Prepare, drawn: Path, tmp_path: Path) -> None:
    """A plan would look for a place on nothing."""
    paint("foreground/002.png", "L", (32, 24), 0)(drawn / "part")
    row = catalog_of(with_files(params), drawn, tmp_path / "out").set_index("image_path").loc["part/train/good/002.png"]

    assert row[["foreground_strategy", "foreground_coverage"]].tolist() == ["none", 1.0]
    assert row["foreground_note"] == "whole image: an object would cover 0.0% of it"


def test_foreground_files_change_nothing_for_other_strategies(params: Prepare, drawn: Path, tmp_path: Path) -> None:
    """Files of one strategy would be strays of another."""
    assert set_aside(catalog_of(params, drawn, tmp_path / "out")) == {}


@pytest.mark.parametrize(("inside", "is_found"), [((90, 90, 90), False), ((250, 250, 250), True), ((20, 90, 160), True)])
def test_the_channel_is_the_one_in_which_the_object_stands_out(
    params: Prepare, mvtec: Path, tmp_path: Path, inside: tuple[int, int, int], *, is_found: bool
) -> None:
    """A grey screw has no saturation: the whole photograph would be the screw. On a ground of 90, a bright part and a coloured one as bright."""
    for number in range(4):
        pixels = np.full((24, 32, 3), 90, np.uint8)
        pixels[6:18, 8:24] = inside
        pixels[0, number] = 91
        Image.fromarray(pixels).save(mvtec / f"part/train/good/{number:03}.png")
    chosen = params.model_copy(update={"foreground": params.foreground.model_copy(update={"channel": "auto"})})
    catalog = catalog_of(chosen, mvtec, tmp_path / "out")
    normal = catalog[(catalog["defect"] == "good") & (catalog["split"] == "train")]

    assert set(normal["foreground_strategy"]) == {"threshold" if is_found else "none"}
    assert normal["foreground_coverage"].between(0.2, 0.3).all() == is_found  # 12 x 16 of 24 x 32 px


@pytest.mark.parametrize(("objects", "strategy"), [(1, "none"), (2, "threshold"), (4, "threshold")])
def test_a_category_is_a_texture_where_few_images_show_an_object(
    params: Prepare, mvtec: Path, tmp_path: Path, objects: int, strategy: str
) -> None:
    """One cloth in ten, its light falling just so, would have its defects crowded into a corner."""
    for number in range(objects):
        pixels = np.full((24, 32, 3), (90, 90, 90 + number), np.uint8)
        pixels[6:18, 8:24] = (250, 20, 20)
        Image.fromarray(pixels).save(mvtec / f"part/train/good/{number:03}.png")
    catalog = catalog_of(params, mvtec, tmp_path / "out").set_index("image_path")
    rows = catalog.loc[[f"part/train/good/{number:03}.png" for number in range(objects)]]

    assert set(rows["foreground_strategy"]) == {strategy}
    assert all(("1 of 4 images show an object" in note) == (objects == 1) for note in rows["foreground_note"])


def test_groups_of_the_file_reach_the_split(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """The groups file would be read and not used: seven cracks of one part cannot be divided."""
    (mvtec / "part/groups.csv").write_text("file,group\n" + "".join(f"test/crack/{number:03}.png,tile 1\n" for number in range(7)))
    found = set_aside(catalog_of(params, mvtec, tmp_path / "out"))

    assert {path.split("/")[2] for path in found} == {"crack"}
    assert "no group of its defect type crack fits" in found[f"part/{CRACK}"]


@pytest.mark.parametrize(
    ("emptied", "message"),
    [
        ("train/good", "at least one normal training image of category part"),
        ("ground_truth", r"at least one defect type with three usable images .*\(defect types: crack, spot\)[\s\S]*11 x has no mask"),
        ("test", "at least one defect type"),
    ],
)
def test_a_category_without_what_it_takes_is_refused(params: Prepare, mvtec: Path, tmp_path: Path, emptied: str, message: str) -> None:
    """Training would start on nothing and fail far from the cause."""
    shutil.rmtree(mvtec / "part" / emptied)
    with pytest.raises(DataError, match=message):
        prepare(params, ["part"], mvtec, tmp_path / "out")


def test_the_same_files_give_the_same_bytes(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A night without change would train everything again."""
    (mvtec / "part" / CRACK).write_bytes(b"no image")
    copied = shutil.copytree(mvtec, tmp_path / "elsewhere/data", copy_function=shutil.copyfile)
    for root, output in ((mvtec, "one"), (copied, "two")):
        prepare(params, ["part"], root, tmp_path / output)

    for name in ("part/catalog.parquet", "summary.json", "set_aside.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_folder_of_the_category_itself_gives_the_same(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """`DATA=.../part` would read nothing, or name its images otherwise."""
    one, two = (catalog_of(params, root, tmp_path / name) for root, name in ((mvtec, "one"), (mvtec / "part", "two")))

    pd.testing.assert_frame_equal(one, two)


def test_btad_is_read(params: Prepare, draw: Callable[..., Path], tmp_path: Path) -> None:
    """BTAD's `ko` would be the defect's name, or its bitmaps not be read."""
    for number in range(3):
        draw(f"01/train/ok/{number:04}.bmp")
        draw(f"01/test/ok/{number:04}.bmp")
        draw(f"01/test/ko/{number:04}.bmp")
        draw(f"01/ground_truth/ko/{number:04}.png", is_mask=True)
    summary, _ = prepare(params.model_copy(update={"layout": "btad"}), ["01"], tmp_path / "data", tmp_path / "out")

    assert summary[["defect", "train", "test", "set_aside"]].to_numpy().tolist() == [["damaged", 1, 2, 0], ["good", 3, 3, 0]]


def test_photographs_sorted_by_hand_are_read(params: Prepare, draw: Callable[..., Path], tmp_path: Path) -> None:
    """A user without a data set of the field would have to write patterns first."""
    for number in range(3):
        draw(f"nut/normal/{number:04}.png")
        draw(f"nut/defects/crack/images/{number:04}.png")
        draw(f"nut/defects/crack/masks/{number:04}.png", is_mask=True)
    summary, _ = prepare(params.model_copy(update={"layout": "plain"}), ["nut"], tmp_path / "data", tmp_path / "out")

    assert summary[["defect", "train", "test", "set_aside"]].to_numpy().tolist() == [["crack", 1, 2, 0], ["good", 3, 0, 0]]


def test_odd_names_are_read(params: Prepare, draw: Callable[..., Path], mvtec: Path, tmp_path: Path) -> None:
    """A user with spaces, umlauts or commas in names would lose these images."""
    names = ["a b", "Prüfling,7", "部品", "{name}", "-rf ~", "x.y.z", "%s"]
    for name in names:
        draw(f"part/test/großer Riss/{name}.png")
        draw(f"part/ground_truth/großer Riss/{name}_mask.png", is_mask=True)
    catalog = catalog_of(params, mvtec, tmp_path / "out")

    assert set_aside(catalog) == {}
    assert sorted(catalog[catalog["defect"] == "großer Riss"]["image_path"]) == sorted(
        f"part/test/großer Riss/{name}.png" for name in names
    )


def test_a_missing_catalog_is_answered_with_the_command(tmp_path: Path) -> None:
    """A user would see a traceback of pyarrow."""
    with pytest.raises(DataError, match="dvc repro prepare"):
        read_catalog(tmp_path / "catalog.parquet")
