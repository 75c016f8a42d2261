"""Unfinished work: found again only for the very same inputs, published in one move."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from stage.batches import FencedError, Spool
from stage.durable import write_whole
from stage.params import load_params
from stage.spool import code_digest, publish, spool_folder, work_key

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool lies in the folder one works in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Load one more module, with a source file of its own."""

    def load(name: str) -> Path:
        loaded = ModuleType(name)
        loaded.__file__ = str(tmp_path / f"{name}.py")
        Path(loaded.__file__).write_text("one = 1\n")
        monkeypatch.setitem(sys.modules, name, loaded)
        return Path(loaded.__file__)

    return load


def test_the_same_inputs_have_the_same_key() -> None:
    """Every resumed run would begin again."""
    again = load_params(Path(__file__).parents[1] / "params.yaml")

    assert work_key(1, PARAMS.synthesize, "digest") == work_key(1, again.synthesize, "digest")


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # no parameter is meant to be that text
@pytest.mark.parametrize("name", list(type(PARAMS.synthesize).model_fields))
def test_every_parameter_changes_the_key(name: str) -> None:
    """A run would resume over samples that other parameters had made."""
    other = PARAMS.synthesize.model_copy(update={name: "another"})

    assert work_key(other) != work_key(PARAMS.synthesize)


@pytest.mark.parametrize("other", [(2, "a", "b"), (1, "a", "c"), (1, "b", "a"), (1, "ab", ""), (1, ["a", "b"]), (1, "a")])
def test_every_input_changes_the_key(other: tuple[object, ...]) -> None:
    """A run would resume over samples of another checkpoint."""
    assert work_key(*other) != work_key(1, "a", "b")


def test_changed_code_changes_the_key(module: Callable[[str], Path]) -> None:
    """After a correction, the samples that the mistake had made would be taken up."""
    source = module("stage.added")
    before = work_key(1)

    source.write_text("one = 2\n")

    assert work_key(1) != before


def test_code_that_is_not_ours_does_not_change_the_key(module: Callable[[str], Path]) -> None:
    """A test file or an orchestrator's change would throw work away."""
    before = code_digest()

    module("stages")
    module("flows.added")

    assert code_digest() == before


def test_work_is_found_again_by_its_key() -> None:
    """A killed run would lose all that it had done."""
    (spool_folder("train", "bolt", "k1") / "state").write_text("half")

    assert (spool_folder("train", "bolt", "k1") / "state").read_text() == "half"
    assert not list(spool_folder("train", "bolt", "k2").iterdir())


def test_published_is_what_was_in_the_folder_and_nothing_else(tmp_path: Path) -> None:
    """Files of an earlier version would stay among the new ones."""
    output = tmp_path / "data" / "train" / "bolt"
    for content in ("first", "second"):
        new = spool_folder("train", "bolt", content) / "new"
        new.mkdir()
        (new / content).write_text(content)
        publish(new, output)

        assert {path.name: path.read_text() for path in output.iterdir()} == {content: content}


def test_finished_work_outlives_its_publication(tmp_path: Path) -> None:
    """DVC deletes an output that it has not noted before a kill: the night's work would be gone with it."""
    new = spool_folder("train", "bolt", "k1") / "new"
    new.mkdir()
    (new / "weights").write_text("trained")

    for _ in range(2):
        publish(new, tmp_path / "out")
        shutil.rmtree(tmp_path / "out")

    assert (new / "weights").read_text() == "trained"


def test_half_an_output_of_a_killed_publication_is_replaced(tmp_path: Path) -> None:
    """A kill during the copy would leave its rest in the next output."""
    new = spool_folder("train", "bolt", "k1") / "new"
    new.mkdir()
    (tmp_path / ".out.arriving").mkdir()
    (tmp_path / ".out.arriving" / "half").write_text("")

    publish(new, tmp_path / "out")

    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / ".out.arriving").exists()


def test_publication_ends_older_work_of_that_verb_and_category_alone(tmp_path: Path) -> None:
    """The spool would grow with every changed parameter, or another category's work would be lost."""
    others = [spool_folder(*place) for place in (("train", "nut", "k1"), ("synthesize", "bolt", "k1"))]
    spool_folder("train", "bolt", "stale")
    new = spool_folder("train", "bolt", "k1") / "new"
    new.mkdir()

    publish(new, tmp_path / "out")

    assert [folder.name for folder in (tmp_path / ".spool" / "train" / "bolt").iterdir()] == ["k1"]
    assert all(folder.is_dir() for folder in others)


def test_only_a_folder_of_the_spool_can_be_published(tmp_path: Path) -> None:
    """What lies around a folder from elsewhere would be deleted as unfinished work."""
    (tmp_path / "a" / "b" / "new").mkdir(parents=True)

    with pytest.raises(ValueError, match="spool"):
        publish(tmp_path / "a" / "b" / "new", tmp_path / "out")
    assert (tmp_path / "a" / "b" / "new").is_dir()


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    """A half-written curve would count as a finished training."""
    (tmp_path / "curve.csv").write_text("old")

    write_whole("neu: ζ\n", tmp_path / "curve.csv")

    assert (tmp_path / "curve.csv").read_text(encoding="utf-8") == "neu: ζ\n"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.csv"]


KEY = "ab" + "0" * 30


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "batches-of-a-test")


def writing(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def test_a_kept_batch_is_found_with_its_maker(spool: Spool) -> None:
    """Every batch would be made again, or nobody be known to have made it."""
    assert (spool.is_there(KEY), spool.finished(KEY), spool.read(KEY), spool.maker(KEY)) == (False, None, None, {})

    file = spool.keep(KEY, writing(b"rows"), maker={"host": "here"})

    assert (spool.is_there(KEY), spool.finished(KEY), spool.read(KEY), spool.maker(KEY)) == (True, file, b"rows", {"host": "here"})
    assert {path.name for path in file.parent.iterdir()} == {f"{KEY}.{suffix}" for suffix in ("parquet", "json", "sha256")}


def test_its_digest_can_be_checked_without_us(spool: Spool) -> None:
    """Someone who looks for damage would need this program."""
    file = spool.keep(KEY, writing(b"rows"))

    assert file.with_suffix(".sha256").read_text() == f"{hashlib.sha256(b'rows').hexdigest()}  {KEY}.parquet\n"


def test_who_has_lost_its_claim_keeps_nothing(spool: Spool) -> None:
    """A machine that slept would come back and write over its successor's work."""
    kept = spool.keep(KEY, writing(b"successor's"))

    with pytest.raises(FencedError, match="found another holder"):
        spool.keep(KEY, writing(b"sleeper's"), lambda: False)
    assert spool.read(KEY) == b"successor's"
    assert len([*kept.parent.iterdir()]) == 3


def test_the_claim_is_asked_for_when_the_batch_is_whole(spool: Spool) -> None:
    """It could be lost in the minutes that the rendering takes."""
    told: list[str] = []

    def write(path: Path) -> None:
        told.append("written")
        path.write_bytes(b"rows")

    spool.keep(KEY, write, lambda: told.append("asked") is None)

    assert told == ["written", "asked"]


def test_what_fails_leaves_nothing(spool: Spool) -> None:
    """Half-written files of a full disk would keep it full."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        spool.keep(KEY, fail)
    assert not [path for path in spool.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("point", ["before_write", "after_write", "after_fsync", "after_rename"])
def test_killed_at_any_point_a_batch_is_whole_or_not_there(spool: Spool, point: str) -> None:
    """Half a batch would count as finished. Work of the killed process is made again in its place."""
    code = f"from pathlib import Path; from stage.batches import Spool; Spool(Path({str(spool.root)!r})).keep({KEY!r}, lambda p: p.write_bytes(b'rows'))"
    root = Path(__file__).parents[1]
    environment = {**os.environ, "STAGE_FAULT": point, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)

    assert done.returncode == -9
    assert spool.finished(KEY) is None
    spool.keep(KEY, writing(b"rows"))
    assert spool.read(KEY) == b"rows"


def test_a_dropped_batch_is_gone(spool: Spool) -> None:
    """What was found to be damaged would stay."""
    kept = spool.keep(KEY, writing(b"rows"))

    spool.drop(KEY)
    spool.drop(KEY)

    assert not [*kept.parent.iterdir()]
