"""Finished batches in the spool: whole or not there, one holder at a time, and every damage seen."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stage.chaos.damage import flipped
from stage.jobs.store import BatchStore, FencedError

KEY = "ab" + "0" * 30


@pytest.fixture
def spool(tmp_path: Path) -> BatchStore:
    return BatchStore(tmp_path / "batches-of-a-test")


def writing(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def test_a_kept_batch_is_found_with_its_maker(spool: BatchStore) -> None:
    """Every batch would be made again, or nobody be known to have made it."""
    assert (spool.is_there(KEY), spool.finished(KEY), spool.read(KEY)) == (False, None, None)

    file = spool.keep(KEY, writing(b"rows"), maker=lambda: {"host": "here"})

    assert (spool.is_there(KEY), spool.finished(KEY), spool.read(KEY), spool.maker(KEY)) == (True, file, b"rows", {"host": "here"})
    assert {path.name for path in file.parent.iterdir()} == {f"{KEY}.{suffix}" for suffix in ("parquet", "json")}


def test_its_digest_can_be_checked_without_us(spool: BatchStore) -> None:
    """Someone who looks for damage would need this program."""
    file = spool.keep(KEY, writing(b"rows"))

    assert json.loads(file.with_suffix(".json").read_text())["sha256"] == hashlib.sha256(b"rows").hexdigest()


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_a_changed_byte_in_either_file_unfinishes_the_batch(spool: BatchStore, suffix: str) -> None:
    """A lost bit would become a sample, or lead to a machine that never made it."""
    file = spool.keep(KEY, writing(b"rows"), maker=lambda: {"host": "here"}).with_suffix(suffix)
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(flipped(content, 8 * place))
        assert spool.read(KEY) is None
    file.write_bytes(content)
    assert spool.read(KEY) == b"rows"


def test_who_has_lost_its_claim_keeps_nothing(spool: BatchStore) -> None:
    """A machine that slept would come back and write over its successor's work."""
    kept = spool.keep(KEY, writing(b"successor's"))

    with pytest.raises(FencedError, match="found another holder"):
        spool.keep(KEY, writing(b"sleeper's"), lambda: False)
    assert spool.read(KEY) == b"successor's"
    assert len([*kept.parent.iterdir()]) == 2


def test_the_claim_is_asked_for_when_the_batch_is_whole(spool: BatchStore) -> None:
    """It could be lost in the minutes that the rendering takes."""
    told: list[str] = []

    def write(path: Path) -> None:
        told.append("written")
        path.write_bytes(b"rows")

    spool.keep(KEY, write, lambda: told.append("asked") is None)

    assert told == ["written", "asked"]


def test_what_fails_leaves_nothing(spool: BatchStore) -> None:
    """Half-written files of a full disk would keep it full."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        spool.keep(KEY, fail)
    assert not [path for path in spool.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("point", ["before_write", "after_write", "after_fsync", "after_rename"])
def test_killed_at_any_point_a_batch_is_whole_or_not_there(spool: BatchStore, point: str) -> None:
    """Half a batch would count as finished. Work of the killed process is made again in its place."""
    code = f"from pathlib import Path; from stage.jobs.store import BatchStore; BatchStore(Path({str(spool.root)!r})).keep({KEY!r}, lambda p: p.write_bytes(b'rows'))"
    root = Path(__file__).parents[1]
    environment = {**os.environ, "STAGE_FAULT": point, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)

    assert done.returncode == -9
    assert spool.finished(KEY) is None
    spool.keep(KEY, writing(b"rows"))
    assert spool.read(KEY) == b"rows"


def test_a_dropped_batch_is_gone(spool: BatchStore) -> None:
    """What was found to be damaged would stay."""
    kept = spool.keep(KEY, writing(b"rows"))

    spool.drop(KEY)
    spool.drop(KEY)

    assert not [*kept.parent.iterdir()]
