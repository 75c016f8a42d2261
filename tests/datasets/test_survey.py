"""`stage use-data` takes what `prepare` can read and nothing else, and says what it leaves out."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.catalog import prepare
from stage.datasets.layouts import MVTEC, data_root
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
    (mvtec / "a\nb").mkdir()
    (mvtec / "away").symlink_to(mvtec / "nothing", target_is_directory=True)
    shutil.copytree(mvtec / "part", mvtec / "grouped")
    (mvtec / "grouped/groups.csv").write_text("image;part\n")
    shutil.copytree(mvtec / "part", mvtec / ("L" * 210))
    found = survey(mvtec)

    assert (found.layout, found.categories) == ("mvtec", ["part"])
    assert {name: reason.split(":")[0][:44] for name, reason in found.left_out.items()} == {
        "L" * 210: "a name takes at most 200 bytes of UTF-8, because it names a folder"[:44],
        "ends.": "a name does not end in a dot or a blank, whi",
        "aux.1": "a name is not a device's, such as CON or COM",
        "grouped": "Expected the columns file and group in "[:44] + f"{mvtec}"[: 44 - 39],
        "bare": "no defect type has 3 images with masks (11 x",
        "linked": f"a link that leaves {mvtec}"[:44],
        "nut (v2)": "its name has other characters than letters, ",
        "papers": "not a category's folder",
        "a\\nb": "not a category's folder",
        "away": "a link to nothing",
    }


def test_what_is_taken_can_be_prepared(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """`use-data` would say yes, and `prepare` no."""
    for name in ("Test", "test", "train", "ground_truth", "x.y", "pie\u0300ce", "हिन्दी"):
        shutil.copytree(mvtec / "part", mvtec / name)
    found = survey(mvtec)
    prepare(params, found.categories, mvtec, tmp_path / "out")

    assert set(found.categories) == {"part", "Test", "train", "ground_truth", "x.y", "pie\u0300ce", "हिन्दी"}
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
    """A user would learn of a link to nothing after the run, from a table, or miss it among a Mac's thousand hidden files."""
    (mvtec / "part/train/good/900.png").symlink_to("/nonexistent/image.png")
    os.mkfifo(mvtec / "part/test/crack/pipe.png")
    for number in range(4):
        (mvtec / f"part/test/spot/._00{number}.png").touch()
    shutil.copy(mvtec / "part/test/spot/000.png", mvtec / "part/test/spot/000.bmp")
    hidden, twice, *others = survey(mvtec).set_aside

    assert hidden.startswith("part: 4 to be set aside: hidden: ")
    assert hidden.endswith(" (part/test/spot/._000.png; part/test/spot/._001.png; part/test/spot/._002.png and 1 more).")
    assert twice.startswith("part: 2 to be set aside: shares its name ")
    assert twice.endswith(" (part/test/spot/000.bmp: part/test/spot/000.png; part/test/spot/000.png: part/test/spot/000.bmp).")
    assert others == [
        "part: 1 to be set aside: not a file (part/test/crack/pipe.png).",
        "part: 1 to be set aside: a link to nothing: remove it, or copy the file itself there (part/train/good/900.png).",
    ]


@contextmanager
def unprivileged() -> Generator[None]:
    """As a user whom permissions stop; root becomes `nobody`."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_named(mvtec: Path) -> None:
    """A folder that another user has copied there would end in a traceback, or be missing without a word."""
    with TemporaryDirectory() as home:
        root = Path(home, "data")
        shutil.copytree(mvtec, root)
        shutil.copytree(mvtec / "part", root / "closed")
        shutil.copytree(mvtec / "part", root / "half")
        Path(home).chmod(0o755)
        modes = {root / "closed": 0, root / "half/train": 0, root / "part/test/spot": 0o444, root / "part/ground_truth/spot": 0}
        for path, mode in modes.items():
            path.chmod(mode)
        with unprivileged():
            found = survey(root)
        for path in modes:
            path.chmod(0o755)

    assert found.left_out == dict.fromkeys(("closed", "half"), "it cannot be read (Permission denied): correct the permissions")
    assert [sentence.split(": ", 2)[1] for sentence in found.set_aside] == ["4 to be set aside", "1 to be set aside"]
    assert (
        "it cannot be looked at (Permission denied): correct the permissions of its folder (part/test/spot/000.png; " in found.set_aside[0]
    )
    assert "a folder that cannot be read: correct its permissions (part/ground_truth/spot)" in found.set_aside[1]


def test_a_category_is_found_however_its_accents_are_composed(params: Prepare, mvtec: Path, tmp_path: Path) -> None:
    """A folder from a Mac, described by patterns, could not be read at all, or not its groups file."""
    (mvtec / "part").rename(mvtec / "pie\u0300ce")
    (mvtec / "pie\u0300ce/groups.csv").write_text("file,group\ntest/crack/000.png,A\ntest/crack/001.png,A\n")
    found = survey(mvtec, MVTEC)
    prepare(params.model_copy(update={"layout": "folder", "folder": MVTEC}), found.categories, mvtec, tmp_path / "out")

    assert found.categories == ["pi\u00e8ce"]
    assert "puts 2 images into 1 group" in found.grouped[0]
