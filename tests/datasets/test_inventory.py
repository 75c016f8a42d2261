"""The text by which DVC sees that images have changed, whatever lies among them."""

import json
import os
from pathlib import Path

import pytest

from stage.datasets.inventory import inventory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files and everything that DVC itself stops at."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(b"one")
    (root / "sub/b.png").write_bytes(b"two")
    (root / "sub/.dvcignore").write_text("*.png")
    (root / "dangling.png").symlink_to("/nonexistent")
    (root / "loop.png").symlink_to("loop.png")
    (root / "linked.png").symlink_to("a.png")
    os.mkfifo(root / "pipe.png")
    (root / os.fsdecode(b"\xff.png")).write_bytes(b"three")
    return root


def test_every_file_has_its_line(folder: Path, tmp_path: Path) -> None:
    """`dvc repro` would end, or wait for ever, at a file that `prepare` sets aside."""
    lines = dict(line.split(": ", 1) for line in inventory(folder, tmp_path / "memory.json").splitlines())

    assert {json.loads(name) for name in lines} == {
        *("a.png", "sub/b.png", "sub/.dvcignore", "dangling.png", "loop.png", "linked.png", "pipe.png", "\\xff.png")
    }
    assert lines['"dangling.png"'] == "No such file or directory"
    assert lines['"linked.png"'] == "link to a.png, " + lines['"a.png"']
    assert lines['"pipe.png"'] == "no file"


def test_the_text_changes_with_the_content_and_with_nothing_else(folder: Path, tmp_path: Path) -> None:
    """A corrected mask would not be read again, or a copied folder be read as a new one."""
    memory = tmp_path / "memory.json"
    before = inventory(folder, memory)
    os.utime(folder / "a.png", (1, 1))

    assert inventory(folder, memory) == before == inventory(folder, tmp_path / "other.json")
    (folder / "a.png").write_bytes(b"six")
    after = inventory(folder, memory)
    assert after != before
    assert after == inventory(folder, tmp_path / "third.json")


def test_a_file_that_did_not_change_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    """Every night would read all photographs only to find that none is new."""
    memory = tmp_path / "memory.json"
    inventory(folder, memory)
    known = json.loads(memory.read_text())
    (path,) = (path for path in known if path.endswith("sub/b.png"))
    memory.write_text(json.dumps(known | {path: ["remembered", *known[path][1:]]}))

    assert '"sub/b.png": remembered\n' in inventory(folder, memory)


def test_a_damaged_memory_is_made_anew(folder: Path, tmp_path: Path) -> None:
    """A power cut would end every later run in a traceback."""
    expected = inventory(folder, tmp_path / "memory.json")
    (tmp_path / "memory.json").write_bytes(b"\xff{")

    assert inventory(folder, tmp_path / "memory.json") == expected
    assert inventory(tmp_path / "nowhere", tmp_path / "memory.json") == ""
