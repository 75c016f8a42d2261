"""Small files that are whole or not there, and that show every change that was made to them."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from stage.chaos.damage import flipped
from stage.core.durable import read_sealed, refusing_full_disks, write_sealed, write_whole
from stage.core.errors import DataError, MachineError

FACTS = {"count": 3, "name": "rißig", "shards": [{"path": "a"}, {"path": "b"}]}


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    """A half-written curve would count as a finished training."""
    (tmp_path / "curve.csv").write_text("old")

    write_whole("neu: ζ\n", tmp_path / "curve.csv")

    assert (tmp_path / "curve.csv").read_text(encoding="utf-8") == "neu: ζ\n"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.csv"]


def test_sealed_facts_come_back(tmp_path: Path) -> None:
    """A manifest would say something else than was written."""
    sealed = write_sealed(FACTS, tmp_path / "facts.json")

    assert read_sealed(tmp_path / "facts.json") == sealed
    assert {key: value for key, value in sealed.items() if key != "seal"} == FACTS


def test_a_flipped_bit_breaks_the_seal_wherever_it_is(tmp_path: Path) -> None:
    """A disk that loses a bit could change who made a batch, or how many samples there are."""
    path = tmp_path / "facts.json"
    write_sealed(FACTS, path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(flipped(content, 8 * place + place % 8))
        with pytest.raises(ValueError):  # noqa: PT011  # whatever it says: of 200 damages some are no JSON, some no UTF-8
            read_sealed(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b"[" * 200_000, "deeper than can be read"),
        ([], "no seal"),
        ({"count": 3}, "no seal"),
        ({"count": 3, "seal": "0" * 64}, "does not fit"),
    ],
)
def test_what_is_not_sealed_says_so(tmp_path: Path, content: Any, problem: str) -> None:
    """A user would look for a damaged disk where an earlier version wrote the file."""
    (tmp_path / "facts.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    with pytest.raises(ValueError, match=problem):
        read_sealed(tmp_path / "facts.json")


def write_to_a_full_disk() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as file:
        file.write("x")


def save_to_a_full_disk() -> None:
    """What safetensors raises there, which has no number."""
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [write_to_a_full_disk, save_to_a_full_disk])
def test_a_full_disk_is_told_with_what_to_do(write: Callable[[], None]) -> None:
    """A night would end in a traceback of whatever was being written."""
    with pytest.raises(MachineError, match=r"found: .*No space left on device.*make room.*run the same command"), refusing_full_disks():
        write()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("28"), DataError("no space (os error 28)")])
def test_other_errors_than_a_full_disk_s_pass_as_they_are(error: Exception) -> None:
    """A defect of ours would be shown as a full disk."""
    with pytest.raises(type(error)) as raised, refusing_full_disks():
        raise error
    assert raised.value is error
