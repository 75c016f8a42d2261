"""What a verb has finished: found again only for the very same inputs, whole or not at all."""

import os
import shutil
from pathlib import Path

import pytest

from stage.core.errors import MachineError
from stage.core.params import load_params
from stage.core.work import Work, work_key
from stage.jobs.heartbeat import present
from stage.jobs.removal import KEPT_WORKS, finish

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
CODE = "stage.model.schedule:timesteps"


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool lies in the folder one works in."""
    monkeypatch.chdir(tmp_path)


def finished(key: str = "k1", content: str = "trained") -> Work:
    work = Work.of("train", "bolt", key)
    work.draft.mkdir()
    (work.draft / "weights").write_text(content)
    finish(work, lease_s=60.0)
    return work


def test_a_disk_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of hours would be made again because a disk was away for a moment."""
    work = finished()

    def broken(_path: Path) -> dict[str, str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("stage.core.work.read_sealed", broken)
    with pytest.raises(MachineError, match=r"Expected to read the result in .*Input/output error"):
        work.is_finished()


def test_a_result_and_its_copy_are_on_the_disk_before_they_have_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut, DVC would keep weights of zeros under the digest of those that it saw in memory."""
    synced, sync = set[int](), os.fsync

    def noted(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    work = finished()
    work.publish(Path("data/train"))

    assert {path.stat().st_ino for folder in (work.result, Path("data/train")) for path in (folder, folder / "weights")} <= synced


def test_the_same_inputs_have_the_same_key() -> None:
    """Every resumed run would begin again."""
    again = load_params(Path(__file__).parents[1] / "params.yaml")

    assert work_key(CODE, seed=1, section=PARAMS.synthesize) == work_key(CODE, section=again.synthesize, seed=1)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # no parameter is meant to be that text
@pytest.mark.parametrize("name", list(type(PARAMS.train).model_fields))
def test_every_parameter_changes_the_key(name: str) -> None:
    """A run would resume over a training of other parameters."""
    other = PARAMS.train.model_copy(update={name: "another"})

    assert work_key(train=other) != work_key(train=PARAMS.train)


def test_other_code_or_libraries_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a correction or an upgrade, what the mistake had made would be taken up."""
    before = work_key(CODE, seed=1)

    assert work_key("stage.model.schedule:transitions", seed=1) != before
    monkeypatch.setattr("stage.core.work.version", lambda name: "0")
    assert work_key(CODE, seed=1) != before


def test_unfinished_work_is_found_again_by_its_key() -> None:
    """A killed run would lose all that it had done."""
    (Work.of("train", "bolt", "k1").folder / "state").write_text("half")

    assert (Work.of("train", "bolt", "k1").folder / "state").read_text() == "half"
    assert not Work.of("train", "bolt", "k1").is_finished()
    assert not list(Work.of("train", "bolt", "k2").folder.iterdir())


def test_published_is_the_result_and_nothing_else(tmp_path: Path) -> None:
    """Files of an earlier version would stay among the new ones."""
    for content in ("first", "second"):
        finished(content, content).publish(tmp_path / "data/train/bolt")

        assert [path.read_text() for path in (tmp_path / "data/train/bolt").iterdir()] == [content]


def test_finished_work_outlives_its_publication(tmp_path: Path) -> None:
    """DVC deletes an output that it has not noted before a kill: the night's work would be gone with it."""
    work = finished()
    for _ in range(2):
        work.publish(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")

    assert work.is_finished()


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_damaged_result_is_not_finished(harm: str) -> None:
    """A disk's fault would be published as a training."""
    work = finished()
    if harm == "gone":
        (work.result / "weights").unlink()
    else:
        (work.result / "weights").write_text("other")

    assert not work.is_finished()


def test_a_stray_file_is_neither_damage_nor_published(tmp_path: Path) -> None:
    """A look into the folder with a Mac's Finder would cost a night's training."""
    work = finished()
    (work.result / ".DS_Store").write_bytes(b"x")

    assert work.is_finished()
    work.publish(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["weights"]


def test_half_an_output_of_a_killed_publication_is_replaced(tmp_path: Path) -> None:
    """A kill during the copy would leave its rest in the next output."""
    (tmp_path / ".out.arriving").mkdir()
    (tmp_path / ".out.arriving" / "half").write_text("")

    finished().publish(tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["weights"]
    assert not (tmp_path / ".out.arriving").exists()


def test_only_the_last_works_of_a_name_are_kept(tmp_path: Path) -> None:
    """The spool would grow with every changed parameter, or another category's work would be lost."""
    other = Work.of("train", "nut", "k0")
    for number in range(KEPT_WORKS + 3):
        finished(f"k{number}")

    kept = sorted(path.name for path in (tmp_path / ".spool/train/bolt").iterdir())
    assert kept == [f"k{number}" for number in range(3, KEPT_WORKS + 3)]
    assert other.folder.is_dir()


def test_a_work_that_is_in_use_is_kept(tmp_path: Path) -> None:
    """A training of hours would vanish under a process, because four others of other parameters ended before it."""
    used = Work.of("train", "bolt", "used")
    with present(used.folder, lease_s=60.0):
        for number in range(KEPT_WORKS + 1):
            finished(f"k{number}")

        assert used.folder.is_dir()
    finished("last")
    assert not used.folder.exists()
