"""`use-data` changes five values of a parameter file and nothing else."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from stage.core.errors import ConfigError
from stage.core.params import load_params
from stage.core.settings import use_data

ROOT = Path(__file__).parents[1]
ORIGINAL = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the repository's parameter file."""
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


def comment(line: str) -> str:
    """What follows the value, at whatever column."""
    return line.partition(" # ")[2]


def test_the_values_of_the_data_are_written_and_no_other(file: Path, tmp_path: Path) -> None:
    """A run on one's own data would be trained with other numbers than the file says."""
    before = load_params(file)
    use_data(file, tmp_path / "images", "btad", ["bolt", "nut"], "CC BY 4.0")
    after = load_params(file)

    changed = {"source": (tmp_path / "images").as_posix(), "layout": "btad", "licence": "CC BY 4.0"}
    changed["foreground"] = before.prepare.foreground.model_copy(update={"channel": "auto"})
    assert after == before.model_copy(
        update={
            "name": "images",
            "categories": ("bolt", "nut"),
            "prepare": before.prepare.model_copy(update=changed),
            "segment": before.segment.model_copy(update={"arms": ()}),
        }
    )


@pytest.mark.parametrize("categories", [["bolt"], [f"category {k}" for k in range(40)]])
def test_every_other_line_stays_as_it_is(file: Path, categories: list[str]) -> None:
    """Units, sources and the reader's own notes would be gone, and `git diff` would show a file made anew."""
    use_data(file, Path("/data"), "mvtec", categories, "unknown")

    lines = list(zip(ORIGINAL.splitlines(), file.read_text(encoding="utf-8").splitlines(), strict=True))
    changed = [before.split(":")[0].strip() for before, after in lines if before != after]
    assert changed == ["name", "categories", "source", "layout", "licence", "channel", "arms"]
    assert all(comment(before) == comment(after) for before, after in lines)


def test_writing_twice_is_writing_once(file: Path) -> None:
    """Comments would wander to the right with every use."""
    contents = []
    for _ in range(3):
        use_data(file, Path("/data"), "mvtec", ["bolt"], "unknown")
        contents.append(file.read_text(encoding="utf-8"))

    assert all(one == other for one, other in pairwise(contents))


@pytest.mark.parametrize("name", ["01", "on", "no", "Null", "1e3", "Prüfling", "metal nut", "0x1f", "2024-01-01"])
def test_a_category_is_a_name_whatever_yaml_thinks_of_it(file: Path, name: str) -> None:
    """BTAD's category `01` would be the number 1, and a folder called `on` true."""
    use_data(file, Path("/data"), "mvtec", [name], "no")

    assert load_params(file).categories == (name,)
    assert load_params(file).prepare.licence == "no"


@pytest.mark.parametrize("folder", ["/a b/#c: [d]", '/Prüf\'linge/"x"', "/" + "long/" * 300 + "x"])
def test_any_folder_can_be_named(file: Path, folder: str) -> None:
    """Images in a folder with an odd name could not be used."""
    use_data(file, Path(folder), "mvtec", ["bolt"], "unknown")

    assert load_params(file).prepare.source == folder


def test_a_relative_folder_is_made_absolute(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would mean another folder from another place."""
    monkeypatch.chdir(tmp_path)

    use_data(file, Path("images"), "mvtec", ["bolt"], "unknown")

    assert load_params(file).prepare.source == (tmp_path / "images").as_posix()


@pytest.mark.parametrize("name", ["../up", "a/b", "", "{category}"])
def test_a_name_that_cannot_be_a_category_leaves_the_file_as_it_was(file: Path, name: str) -> None:
    """A parameter file that does not load would be left behind, or the message would name a file that is gone."""
    with pytest.raises(ConfigError, match=r"params\.yaml, found \d problem.*\n  categories\.0"):
        use_data(file, Path("/data"), "mvtec", [name], "unknown")

    assert file.read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert {path.name for path in file.parent.iterdir()} == {"params.yaml"}


def test_what_dvc_reads_and_we_could_not_write_again_is_refused(file: Path) -> None:
    """A tab before a value, which two of three YAML readers take, would end in a traceback of the third."""
    file.write_text(ORIGINAL.replace("seed: ", "seed:\t", 1), encoding="utf-8")

    line = 1 + next(number for number, text in enumerate(ORIGINAL.splitlines()) if text.startswith("seed: "))

    assert load_params(file)
    with pytest.raises(ConfigError, match=rf"found character '\\t' that cannot start any token in line {line}"):
        use_data(file, Path("/data"), "mvtec", ["bolt"], "unknown")


def test_line_ends_of_windows_and_a_byte_order_mark_do_no_harm(file: Path) -> None:
    """The file would have two kinds of line ends afterwards, or none that is read."""
    file.write_bytes(b"\xef\xbb\xbf" + ORIGINAL.replace("\n", "\r\n").encode())
    use_data(file, Path("/data"), "mvtec", ["bolt"], "unknown")

    assert load_params(file).categories == ("bolt",)
    assert b"\r" not in file.read_bytes()


def test_without_a_parameter_file_there_is_one_message(tmp_path: Path) -> None:
    """`stage use-data` outside the project would end in a traceback."""
    with pytest.raises(ConfigError, match=r"Expected a parameter file .*Run from the project's root"):
        use_data(tmp_path / "params.yaml", Path("/data"), "mvtec", ["bolt"], "unknown")
