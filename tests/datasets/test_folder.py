"""Every file that might be meant as an image is found, paired, or named with a reason."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from stage.core.data_params import FolderRule
from stage.core.errors import DataError
from stage.datasets.folder import FoundFile, find
from stage.datasets.layouts import MVTEC as RULE


def reasons(root: Path, rule: FolderRule = RULE) -> dict[str, str]:
    return {found.path: found.reason for found in find(root, "part", rule) if found.reason}


def test_images_are_found_with_their_masks(mvtec: Path) -> None:
    """A mask would belong to another image."""
    found = {each.path: each for each in find(mvtec, "part", RULE)}

    assert len(found) == 4 + 2 + 7 + 4
    assert reasons(mvtec) == {}
    assert found["part/test/crack/003.png"] == FoundFile(
        "part/test/crack/003.png", ("part/ground_truth/crack/003_mask.png",), "crack", "test"
    )
    assert found["part/train/good/003.png"] == FoundFile("part/train/good/003.png", (), "good", "train")
    assert found["part/test/good/001.png"] == FoundFile("part/test/good/001.png", (), "good", "test")
    assert list(found) == sorted(found)


def test_a_foreground_belongs_to_the_training_image_of_its_name(mvtec: Path, draw: Callable[..., Path]) -> None:
    """Every normal test image would get a training image's object, or the files would be listed as strays."""
    draw("part/foreground/001.bmp", is_mask=True)
    found = {each.path: each for each in find(mvtec, "part", RULE)}

    assert len(found) == 4 + 2 + 7 + 4
    assert found["part/train/good/001.png"].foregrounds == ("part/foreground/001.bmp",)
    assert [path for path, each in found.items() if each.foregrounds] == ["part/train/good/001.png"]


def test_foregrounds_may_lie_elsewhere(mvtec: Path, draw: Callable[..., Path]) -> None:
    """A user whose objects lie in another folder would have to move them, and be told that they are missing."""
    draw("objects/part/001.png", is_mask=True)
    rule = RULE.model_copy(update={"foreground": "objects/{category}/{name}.*"})
    found = {each.path: each for each in find(mvtec, "part", rule, with_foregrounds=True)}

    assert found["part/train/good/001.png"].foregrounds == ("objects/part/001.png",)
    assert not any(each.reason for each in found.values())


def spoil_stem(part: Path) -> None:
    Image.new("RGB", (32, 24)).save(part / "test/crack/001.jpg")


def spoil_normal_stem(part: Path) -> None:
    Image.new("RGB", (32, 24)).save(part / "train/good/001.jpg")


def spoil_masks(part: Path) -> None:
    shutil.copy(part / "ground_truth/crack/001_mask.png", part / "ground_truth/crack/001_mask.bmp")


def spoil_mask(part: Path) -> None:
    (part / "ground_truth/crack/001_mask.png").unlink()


def spoil_image(part: Path) -> None:
    (part / "test/crack/001.png").unlink()


def spoil_mask_name(part: Path) -> None:
    (part / "ground_truth/crack/001_mask.png").rename(part / "ground_truth/crack/001_gt.png")


def add_text(part: Path) -> None:
    (part / "test/crack/001.json").write_text("{}")


def add_line_break(part: Path) -> None:
    shutil.copy(part / "train/good/001.png", part / "train/good/a\nb.png")


def add_folder_with_escape(part: Path) -> None:
    (part / "test/cr\x1back").mkdir()
    shutil.copy(part / "test/crack/001.png", part / "test/cr\x1back")


def add_hidden(part: Path) -> None:
    (part / "test/crack/.DS_Store").write_bytes(b"\0")


def add_type_without_folder(part: Path) -> None:
    shutil.copy(part / "test/crack/001.png", part / "test/loose.png")


def add_link_out(part: Path) -> None:
    outside = part.parent.parent / "outside.png"
    shutil.copy(part / "test/crack/001.png", outside)
    (part / "train/good/linked.png").symlink_to(outside)


def add_dangling_link(part: Path) -> None:
    (part / "train/good/linked.png").symlink_to(part / "nothing.png")


def add_folder_that_is_away(part: Path) -> None:
    (part / "test/again").symlink_to(part / "nothing", target_is_directory=True)


def add_linked_folder(part: Path) -> None:
    (part / "test/again").symlink_to(part / "test/crack", target_is_directory=True)


def add_pipe(part: Path) -> None:
    os.mkfifo(part / "train/good/pipe.png")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_stem, {"test/crack/001.png": "shares its name", "test/crack/001.jpg": "shares its name"}),
        (spoil_normal_stem, {"train/good/001.png": "shares its name", "train/good/001.jpg": "shares its name"}),
        (spoil_masks, {"test/crack/001.png": "has several masks"}),
        (spoil_mask, {"test/crack/001.png": "has no mask"}),
        (spoil_image, {"ground_truth/crack/001_mask.png": "a mask without an image"}),
        (spoil_mask_name, {"test/crack/001.png": "has no mask", "ground_truth/crack/001_gt.png": "a mask without an image"}),
        (add_text, {"test/crack/001.json": "not an image file"}),
        (add_line_break, {"train/good/a\nb.png": "its name, or that of its folder, has a control character"}),
        (add_folder_with_escape, {"test/cr\x1back/001.png": "its name, or that of its folder, has a control character"}),
        (add_hidden, {"test/crack/.DS_Store": "hidden"}),
        (add_type_without_folder, {"test/loose.png": "no rule of the layout"}),
        (add_link_out, {"train/good/linked.png": "a link that leaves"}),
        (add_dangling_link, {"train/good/linked.png": "a link to nothing"}),
        (add_folder_that_is_away, {"test/again": "a link to nothing"}),
        (add_linked_folder, {"test/again": "a linked folder"}),
        (add_pipe, {"train/good/pipe.png": "not a file"}),
    ],
)
def test_each_spoiled_file_is_named_and_no_other(mvtec: Path, spoil: Callable[[Path], None], expected: dict[str, str]) -> None:
    """A file would vanish without a word, or take its neighbours with it."""
    spoil(mvtec / "part")
    found = reasons(mvtec)

    assert sorted(found) == sorted(f"part/{path}" for path in expected)
    assert all(found[f"part/{path}"].startswith(start) for path, start in expected.items())


def test_what_a_mac_leaves_beside_each_file_is_hidden_and_named(mvtec: Path) -> None:
    """A mask that is none would be paired with an image that is none, and have a row nowhere."""
    part = mvtec / "part"
    beside = [path for path in part.rglob("*.png") if "000" in path.name]
    for path in beside:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    (part / "test/crack/.ipynb_checkpoints").mkdir()
    (part / "test/crack/.ipynb_checkpoints/000-checkpoint.png").write_bytes((part / "test/crack/000.png").read_bytes())
    found = reasons(mvtec)

    assert set(found.values()) == {"hidden: its name, or that of its folder, begins with a dot"}
    assert len(found) == len(beside) + 1


def test_a_name_that_is_no_utf8_is_shown_and_set_aside(mvtec: Path) -> None:
    """Such a name cannot be written to the catalog: the run would end with a traceback."""
    folder = mvtec / "part/train/good"
    try:
        (folder / "000.png").rename(folder / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")

    assert reasons(mvtec) == {"part/train/good/\\xff.png": "its name is not valid UTF-8: rename it"}


def test_a_defect_type_that_is_no_utf8_is_shown(mvtec: Path) -> None:
    """The catalog could not be written."""
    try:
        (mvtec / "part/test/crack").rename(mvtec / "part/test" / os.fsdecode(b"\xff"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")

    assert {each.defect for each in find(mvtec, "part", RULE) if each.image} == {"good", "spot", "\\xff"}


def test_files_beside_the_layout_are_left_alone(mvtec: Path) -> None:
    """The readme and licence of every data set would be reported as broken images."""
    (mvtec / "part/readme.txt").write_text("about")
    (mvtec / "part/groups.csv").write_text("file,group\n")

    assert reasons(mvtec) == {}


def test_files_of_other_categories_are_left_alone(tmp_path: Path) -> None:
    """One category's catalog would change with another's images."""
    rule = FolderRule(
        normal="good/{category}/{name}.png",
        test_normal="",
        image="bad/{category}/{defect}-{name}.png",
        mask="mask/{category}/{defect}-{name}.png",
        groups="",
        foreground="",
    )
    for path in ("good/part/1.png", "good/other/1.png", "bad/part/crack-1.png", "bad/other/crack-1.png", "mask/part/crack-1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / path)

    assert [found.path for found in find(tmp_path, "part", rule)] == ["bad/part/crack-1.png", "good/part/1.png"]
    assert reasons(tmp_path, rule) == {}


def test_a_missing_category_is_named(mvtec: Path) -> None:
    """A slip in `categories` would give an empty data set."""
    with pytest.raises(DataError, match=r"images of category bolt in the folder .*bolt, found no such folder .* params.yaml"):
        find(mvtec, "bolt", RULE)


def test_a_category_that_is_a_link_out_is_refused(mvtec: Path, tmp_path: Path) -> None:
    """A data set from elsewhere could have any folder of the machine read."""
    (tmp_path / "elsewhere").mkdir()
    (mvtec / "bolt").symlink_to(tmp_path / "elsewhere", target_is_directory=True)

    with pytest.raises(DataError, match="found no such folder inside"):
        find(mvtec, "bolt", RULE)
