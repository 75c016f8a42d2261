"""`stage use-data` takes what `prepare` can read and nothing else, and says what it leaves out."""

import os
import shutil
from pathlib import Path

import pytest

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.catalog import prepare
from stage.datasets.layouts import data_root
from stage.datasets.survey import survey


def test_a_good_category_is_taken_and_every_other_folder_named(mvtec: Path) -> None:
    """A user would wait for a category that cannot be, or never learn that one is missing."""
    shutil.copytree(mvtec / "part", mvtec / "bare")
    shutil.rmtree(mvtec / "bare/ground_truth")
    shutil.copytree(mvtec / "part", mvtec / "nut (v2)")
    shutil.copytree(mvtec / "part", mvtec.parent / "outside")
    shutil.copytree(mvtec / "part", mvtec / "ends.")
    shutil.copytree(mvtec / "part", mvtec / "aux.1")
    (mvtec / "linked").symlink_to(mvtec.parent / "outside", target_is_directory=True)
    (mvtec / "papers").mkdir()
    shutil.copytree(mvtec / "part", mvtec / "grouped")
    (mvtec / "grouped/groups.csv").write_text("image;part\n")
    shutil.copytree(mvtec / "part", mvtec / ("L" * 210))
    found = survey(mvtec)

    assert (found.layout, found.categories) == ("mvtec", ["part"])
    assert {name: reason.split(":")[0][:44] for name, reason in found.left_out.items()} == {
        "L" * 210: "a name takes at most 200 bytes of UTF-8, because it names a folder"[:44],
        "ends.": "a name does not end in a dot or a blank, whi",
        "aux.1": "a name is none of a device's, such as CON or",
        "grouped": "Expected the columns file and group in "[:44] + f"{mvtec}"[: 44 - 39],
        "bare": "no defect type has 3 images with masks (11 x",
        "linked": f"a link that leaves {mvtec}"[:44],
        "nut (v2)": "its name has other characters than letters, ",
        "papers": "not a category's folder",
    }


def test_what_is_taken_can_be_prepared(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """`use-data` would say yes, and `prepare` no."""
    for name in ("Test", "test", "train", "ground_truth", "x.y"):
        shutil.copytree(mvtec / "part", mvtec / name)
    found = survey(mvtec)
    prepare(params, found.categories, mvtec, tmp_path / "out")

    assert set(found.categories) == {"part", "Test", "train", "ground_truth", "x.y"}
    assert found.left_out["test"].startswith("one file name with Test")
    for name in ("Test", "test", "train"):
        assert survey(mvtec / name).categories == [name]
        assert data_root(mvtec / name, "mvtec", name) == mvtec


@pytest.mark.parametrize("spoil", ["brackets", "masks", "normal"])
def test_a_folder_without_any_category_is_refused_with_the_reason(mvtec: Path, spoil: str) -> None:
    """A user would read a regular expression, and not that the folder's name is meant."""
    if spoil == "brackets":
        (mvtec / "part").rename(mvtec / "part (v2)")
    elif spoil == "masks":
        for path in (mvtec / "part/ground_truth").rglob("*.png"):
            path.rename(path.with_name(path.name.replace("_mask", "_gt")))
    else:
        shutil.rmtree(mvtec / "part/train/good")
        (mvtec / "part/train/good").mkdir()
    told = {"brackets": "rename the folder", "masks": "looks for .*{name}_mask", "normal": "no normal training image"}[spoil]

    with pytest.raises(DataError, match=rf"Expected a category that can be read in .*\n.*{told}"):
        survey(mvtec)


def test_files_that_will_be_set_aside_are_named(mvtec: Path) -> None:
    """A user would learn of a link to nothing after the run, from a table."""
    (mvtec / "part/train/good/900.png").symlink_to("/nonexistent/image.png")
    os.mkfifo(mvtec / "part/test/crack/pipe.png")
    for number in range(9):
        (mvtec / f"part/test/spot/{number}.txt").touch()
    told = survey(mvtec).set_aside

    assert told[0] == "part/test/crack/pipe.png will be set aside: not a file."
    assert told[-1] == "part: 6 more files will be set aside."
    assert len(told) == 6
