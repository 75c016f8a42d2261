"""Known layouts are recognised; unknown ones are answered with what was looked for."""

from pathlib import Path

import pytest

from stage.core.errors import DataError
from stage.datasets.layouts import data_root, detect_layout


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def mvtec(name: str) -> tuple[str, str]:
    return f"{name}/train/good", f"{name}/test/crack"


def btad(name: str) -> tuple[str, str]:
    return f"{name}/train/ok", f"{name}/test/ko"


def test_layouts_are_recognised_with_their_categories(tmp_path: Path) -> None:
    """A user would have to describe a data set that everybody has."""
    assert detect_layout(folders(tmp_path / "a", *mvtec("washer"), *mvtec("bolt"), "papers")) == ("mvtec", ["bolt", "washer"])
    assert detect_layout(folders(tmp_path / "b", *btad("01"), *btad("03"))) == ("btad", ["01", "03"])
    assert detect_layout(folders(tmp_path / "c", "nut/normal", "nut/defects/crack/images")) == ("plain", ["nut"])
    assert detect_layout(tmp_path / "c/nut") == ("plain", ["nut"])


def test_the_folder_of_one_category_is_enough(tmp_path: Path) -> None:
    """`DATA=.../bottle` would find nothing, where `DATA=...` does."""
    folders(tmp_path, *mvtec("bottle"))

    assert detect_layout(tmp_path / "bottle") == ("mvtec", ["bottle"])
    assert data_root(tmp_path / "bottle", "mvtec", "bottle") == tmp_path
    assert data_root(tmp_path, "mvtec", "bottle") == tmp_path


@pytest.mark.parametrize("names", [(), ("images", "labels"), ("bottle/train/good",)])
def test_an_unknown_layout_is_answered_with_what_was_looked_for(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A user would not learn that the generic layout reads anything."""
    with pytest.raises(DataError, match=r"mvtec: <category>/train/good .* btad: <category>/train/ok .* `folder`"):
        detect_layout(folders(tmp_path / "data", *names or (".",)))


def test_two_layouts_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Half of the categories would be left out."""
    with pytest.raises(DataError, match="several at once"):
        detect_layout(folders(tmp_path, *mvtec("bottle"), *btad("01")))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A wrong path would give a traceback."""
    with pytest.raises(DataError, match=r"nowhere, found none"):
        detect_layout(tmp_path / "nowhere")
