"""The groups file is read as users write it, and doubted where it is ambiguous."""

from pathlib import Path

import pytest

from stage.core.errors import DataError
from stage.datasets.group_files import accept_groups
from stage.datasets.groups import read_groups
from stage.datasets.layouts import MVTEC
from stage.datasets.summary import unmatched_rows

IMAGES = ["part/good/1.png", "part/crack/1.png", "part/crack/2.png"]


def groups(root: Path, text: str | bytes) -> dict[str, str]:
    (root / "part").mkdir(exist_ok=True)
    (root / "part/groups.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_groups(root, "part/groups.csv", IMAGES).of


@pytest.mark.parametrize("name", ["part/crack/2.png", "crack/2.png", "2.png", "./crack/2.png", "crack\\2.png"])
def test_a_file_is_named_by_path_or_by_name(tmp_path: Path, name: str) -> None:
    """The groups of a user who wrote another kind of path would silently not hold."""
    assert groups(tmp_path, f"file,group\n{name},007\n") == {"part/crack/2.png": "007"}


def test_byte_order_mark_and_other_columns_do_no_harm(tmp_path: Path) -> None:
    """A table saved by Excel would be refused."""
    assert groups(tmp_path, b"\xef\xbb\xbffile,when,group\n2.png,today,A\n") == {"part/crack/2.png": "A"}


def test_without_a_file_there_are_no_groups(tmp_path: Path) -> None:
    """The file is optional."""
    assert read_groups(tmp_path, "part/groups.csv", IMAGES).of == {}
    assert read_groups(tmp_path, "", IMAGES).of == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        (b"file,group\n\xff\xfe,1\n", "cannot be read"),
        ("file;group\n2.png;1\n", r"columns file and group .* found \['file;group'\]"),
        ("file,group,group\n2.png,1,2\n", r"each once, found \['file', 'group', 'group'\]"),
        ("file,group\n2.png,1,\n", "Expected 2 fields in line 2, saw 3"),
        ("file,group\n2.png,\0001\n", "NUL characters"),
        ("file,group\n2.png,1\n2.png,2\n", "found two for '2.png'"),
        ("file,group\n1.png,1\n", "found several of that name"),
        ("file,group\nelsewhere.png,1\n", "which name none"),
    ],
)
def test_a_groups_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Images of one part would stand on both sides of the split, and every number would be too good."""
    with pytest.raises(DataError, match=message):
        groups(tmp_path, text)


@pytest.mark.parametrize("name", ["Groups.csv", "groups.CSV ", "groups.csv.csv", "groups.csv.txt"])
def test_a_slip_in_the_name_of_the_file_itself_is_refused(tmp_path: Path, name: str) -> None:
    """A table from Windows would be there for the user and not for us, and no image would be grouped."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / name).write_text("file,group\n2.png,1\n")

    with pytest.raises(DataError, match=rf"Expected the groups file at .*groups\.csv, found '{name}' there\. Rename it"):
        read_groups(tmp_path, "part/groups.csv", IMAGES)


def test_a_groups_file_that_is_away_is_refused(tmp_path: Path) -> None:
    """A disk that is not mounted would leave every image in a group of its own."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part/groups.csv").symlink_to(tmp_path / "part/away.csv")

    with pytest.raises(DataError, match=r"found a link to nothing\. Copy the file itself there"):
        read_groups(tmp_path, "part/groups.csv", IMAGES)


def test_accents_may_be_composed_either_way(tmp_path: Path) -> None:
    """Two photographs of one part would stand on both sides of the split, since a Mac wrote the names and not the table."""
    (tmp_path / "groups.csv").write_text("file,group\npi\u00e8ce/1.png,A\npie\u0300ce/2.png,A\n", encoding="utf-8")
    images = ["pie\u0300ce/1.png", "pi\u00e8ce/2.png"]

    assert read_groups(tmp_path, "groups.csv", images).of == dict.fromkeys(images, "A")


@pytest.mark.parametrize("name", ["crack/2.PNG", " crack/2.png", "Crack/2.png", "crack/2.jpg", "2", "part/crack/2.png "])
def test_a_slip_in_a_name_is_read_as_the_image_that_it_nearly_names(tmp_path: Path, name: str) -> None:
    """One image of a part would be trained on, and the next be in the test."""
    assert groups(tmp_path, f"file,group\npart/good/1.png,A\n{name},A\n") == {"part/good/1.png": "A", "part/crack/2.png": "A"}
    found = read_groups(tmp_path, "part/groups.csv", IMAGES)
    assert unmatched_rows(found, MVTEC, "part") == [
        f"part: 1 line of part/groups.csv naming no image exactly, read by likeness: {name!r} as part/crack/2.png."
    ]


def test_a_slip_that_may_mean_several_images_is_refused(tmp_path: Path) -> None:
    """A part would be trained on and tested on, by a guess."""
    with pytest.raises(DataError, match=r"found '1\.PNG', which names no image \(meant: part/crack/1\.png or part/good/1\.png\?\)"):
        groups(tmp_path, "file,group\n2.png,A\n1.PNG,A\n")
    with pytest.raises(DataError, match=r"found two for 'part/crack/2\.png'"):
        groups(tmp_path, "file,group\n2.PNG,A\ncrack/2.PNG,B\n")


def test_a_line_that_names_nothing_is_reported(tmp_path: Path) -> None:
    """A table that lists an image removed since would stop every night, or a wrong number go unseen."""
    groups(tmp_path, "file,group\n2.png,A\ncrack/0005.png,A\n" + "x" * 300 + ",B\n")
    found = read_groups(tmp_path, "part/groups.csv", IMAGES)

    assert found.unmatched == ["crack/0005.png", "x" * 300]
    assert unmatched_rows(found, MVTEC, "part") == [
        f"part: 2 lines of part/groups.csv naming no file, without effect: crack/0005.png, {'x' * 300}."
    ]


def test_lines_that_name_other_files_are_no_slips(tmp_path: Path) -> None:
    """A table of all categories, or one that lists the masks too, would be refused or reported."""
    (tmp_path / "part/crack").mkdir(parents=True)
    (tmp_path / "part/crack/2_mask.png").touch()
    groups(tmp_path, "file,group\ncrack/2.png,A\ncrack/2_mask.png,A\n")

    assert read_groups(tmp_path, "part/groups.csv", IMAGES).unmatched == []


def test_a_line_without_a_group_groups_nothing(tmp_path: Path) -> None:
    """All images whose line was cut short would be one group, called nan."""
    assert groups(tmp_path, "file,group\npart/crack/1.png,A\npart/crack/2.png\n") == {"part/crack/1.png": "A"}


def test_a_groups_file_from_outside_is_refused(tmp_path: Path) -> None:
    """A data set from elsewhere could have any file of the machine read."""
    (tmp_path / "root/part").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("file,group\n2.png,1\n")
    (tmp_path / "root/part/groups.csv").symlink_to(tmp_path / "secret.csv")

    with pytest.raises(DataError, match="a link that leaves it"):
        read_groups(tmp_path / "root", "part/groups.csv", IMAGES)


@pytest.mark.parametrize(
    "spelling", ["part//crack/2.png", "part/good/../crack/2.png", "./crack/./2.png", "{root}/part/crack/2.png", "linked/2.png"]
)
def test_a_path_may_be_spelled_in_any_way(tmp_path: Path, spelling: str) -> None:
    """The line would be taken for one of another file, and its image leave its group in silence."""
    for image in IMAGES:
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).touch()
    (tmp_path / "linked").symlink_to("part/crack")
    name = spelling.format(root=tmp_path)

    assert groups(tmp_path, f"file,group\n{name},A\n") == {"part/crack/2.png": "A"}
    with pytest.raises(DataError, match=r"Expected one group for each file in .*, found two for 'part/crack/2.png'"):
        groups(tmp_path, f"file,group\n{name},A\npart/crack/2.png,B\n")


def test_a_table_may_list_other_categories_alone(tmp_path: Path) -> None:
    """One table for all categories would refuse each category that has no groups."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/1.png").touch()
    (tmp_path / "groups.csv").write_text("file,group\nother/1.png,A\n")

    assert read_groups(tmp_path, "groups.csv", IMAGES) == ({}, [], {})


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        ("a,1 b,2 c,2 d,3", "a,1 b,1 c,2 d,2"),  # clusters {a, b} and {c, d}; b and c are of one group
        ("a,0 c,1 d,1", "d,1 x,1 a,0 c,0"),  # {d, x} and {a, c}; c and d are of one group
        ("a,1 b,2 c,2 d,3 e,3 f,4", "a,5 b,5 c,6 d,6 e,7 f,7"),
    ],
)
def test_accepted_clusters_are_never_divided(tmp_path: Path, lines: str, chosen: str) -> None:
    """Two photographs that a person has called one part would stand on both sides of the split."""
    rows = [line.split(",") for line in (lines + " " + chosen).split()]
    images = sorted({name for name, _ in rows})
    (tmp_path / "groups.csv").write_text("file,group\n" + "\n".join([*lines.split(), "other,9"]))
    accept_groups(dict(line.split(",") for line in chosen.split()), tmp_path, "groups.csv", [*images, "other"])
    found = read_groups(tmp_path, "groups.csv", [*images, "other"]).of

    assert len({found[name] for name in images}) == 1
    assert found["other"] == "9"


def test_a_draft_that_is_older_than_the_images_is_refused(tmp_path: Path) -> None:
    """A user would be told to rename a photograph that is gone."""
    with pytest.raises(DataError, match=r"found 'part/gone\.png', which it has not\. Run `stage groups` again"):
        accept_groups({"part/crack/1.png": "A", "part/gone.png": "A"}, tmp_path, "groups.csv", IMAGES)
    assert not (tmp_path / "groups.csv").exists()
