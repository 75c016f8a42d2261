"""New photographs: what is taken in, set aside, or left for a later night. The oracle is the folder that `prepare` reads."""

import csv
import os
import shutil
import signal
from datetime import date
from pathlib import Path

import pytest
from PIL import Image
from small_factory import small_params

from stage.chaos.miniature import CATEGORY, SIZE, draw
from stage.core.errors import ConfigError, MachineError
from stage.core.params import Params
from stage.nights.arrivals import Arrival, Drop
from stage.nights.intake import Intake, take_in

DAY = date(2026, 11, 29)
IMAGE, MASK = f"{CATEGORY}/test/crack/900.png", f"{CATEGORY}/ground_truth/crack/900_mask.png"
NORMAL = f"{CATEGORY}/train/good/900.png"


class Place:
    """A folder of photographs, and a drop folder with a new normal image and a new defect."""

    def __init__(self, root: Path) -> None:
        self.source, self.drop = root / "raw", root / "drop"
        draw(self.source, SIZE)
        self.before = self.names()
        defect = next(iter(sorted((self.source / CATEGORY / "test/crack").iterdir())))
        self.bring(NORMAL, sorted((self.source / CATEGORY / "train/good").iterdir())[0])
        self.bring(IMAGE, defect)
        self.bring(MASK, self.source / CATEGORY / "ground_truth/crack" / f"{defect.stem}_mask.png")

    def bring(self, name: str, original: Path) -> None:
        (self.drop / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, self.drop / name)

    def names(self) -> set[str]:
        return {path.relative_to(self.source).as_posix() for path in self.source.rglob("*") if path.is_file()}

    def gained(self) -> set[str]:
        return self.names() - self.before

    def left(self) -> set[str]:
        return {path.relative_to(self.drop).as_posix() for path in self.drop.rglob("*") if path.is_file()}

    @property
    def params(self) -> Params:
        params = small_params()
        return params.model_copy(update={"prepare": params.prepare.model_copy(update={"source": str(self.source)})})

    def take_in(self, settle_s: float = 0.0) -> Intake:
        return take_in(self.drop, self.params, settle_s, DAY)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def reasons(place: Place) -> dict[str, str]:
    with (place.drop / "set-aside" / "2026-11-29" / "reasons.csv").open(encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_new_photographs_are_moved_in(place: Place) -> None:
    """A day's photographs would wait for ever."""
    bytes_of = {name: (place.drop / name).read_bytes() for name in (NORMAL, IMAGE, MASK)}
    found = place.take_in()

    assert set(found.taken_in) == place.gained() == {NORMAL, IMAGE, MASK}
    assert {name: (place.source / name).read_bytes() for name in bytes_of} == bytes_of
    assert not place.left()
    assert place.take_in() == Intake([], [], [])


def test_a_file_that_changed_just_now_is_left(place: Place) -> None:
    """Half a photograph would be taken in. Its own time says nothing: who copies with `cp -p` sets it."""
    os.utime(place.drop / IMAGE, (0, 0))
    found = place.take_in(settle_s=60)

    assert not place.gained()
    assert {row["reason"] for row in found.waiting} == {"still changing"}
    assert place.left() == {NORMAL, IMAGE, MASK}


def test_a_defect_waits_for_its_mask(place: Place) -> None:
    """It would be set aside because its mask was drawn an hour later."""
    mask = (place.drop / MASK).rename(place.drop.parent / "mask.png")
    found = place.take_in()

    assert place.gained() == {NORMAL}
    assert place.left() == {IMAGE}
    assert [row["file"] for row in found.waiting] == [IMAGE]

    place.bring(MASK, mask)
    place.take_in()
    assert place.gained() == {NORMAL, IMAGE, MASK}


def cut(place: Place) -> None:
    content = (place.drop / IMAGE).read_bytes()
    (place.drop / IMAGE).write_bytes(content[: len(content) // 2])


def resize(place: Place) -> None:
    Image.new("L", (SIZE + 1, SIZE)).save(place.drop / MASK)


def lead_out(place: Place) -> None:
    (place.drop / IMAGE).unlink()
    (place.drop / IMAGE).symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("spoil", "reason"), [(cut, "truncated or damaged"), (resize, "its mask: another size"), (lead_out, "a link that leaves")]
)
def test_bad_files_are_set_aside_with_the_reason(place: Place, spoil: object, reason: str) -> None:
    """They would reach the data, or vanish without a word."""
    spoil(place)  # pyright: ignore[reportCallIssue]
    place.take_in()

    assert IMAGE not in place.gained()
    assert NORMAL in place.gained()
    assert IMAGE not in place.left()
    assert reasons(place)[IMAGE].startswith(reason)
    assert os.path.lexists(place.drop / "set-aside" / "2026-11-29" / IMAGE)


def test_what_is_no_file_is_set_aside_and_not_opened(place: Place) -> None:
    """To open a pipe waits for ever for a writer, and a link to a device is read without end: the night would hang, outside its limit."""
    odd = [f"{CATEGORY}/test/crack/{name}.png" for name in ("901", "902")]
    os.mkfifo(place.drop / odd[0])
    (place.drop / odd[1]).symlink_to("/dev/zero")
    os.mkfifo(place.drop / "pipe")
    child = os.fork()
    if not child:
        signal.alarm(300)
        place.take_in()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert place.gained() == {NORMAL, IMAGE, MASK}
    told = reasons(place)
    assert [told[name] for name in odd] == ["not a file", "a link that leaves the data folder: copy the file itself there"]
    assert "pipe" in told


def test_a_disk_that_does_not_take_what_is_set_aside_is_named(place: Place) -> None:
    """The night would end in a traceback, without the name of the file."""
    cut(place)
    (place.drop / "set-aside").touch()

    with pytest.raises(MachineError, match=rf"{IMAGE}, .* aside: truncated or damaged.* found Not a directory \({place.drop}/set-aside"):
        place.take_in()


@pytest.mark.parametrize("name", ["000.png", "000.bmp"])
def test_a_name_that_is_taken_is_never_overwritten(place: Place, name: str) -> None:
    """A photograph that samples were made from would be another one; or two of one name would both be set aside by `prepare`."""
    normal = f"{CATEGORY}/train/good"
    before = (place.source / normal / "000.png").read_bytes()
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(place.drop / normal / name)
    place.take_in()

    assert (place.source / normal / "000.png").read_bytes() == before
    assert place.gained() == {NORMAL, IMAGE, MASK}
    assert "is there already" in reasons(place)[f"{normal}/{name}"]


def test_a_file_of_no_category_is_set_aside_and_keeps_its_twin(place: Place) -> None:
    """It would lie there for ever without a word; a second one of its name would replace the first."""
    for _ in range(2):
        place.bring("screw/train/good/1.png", place.source / sorted(place.before)[0])
        place.take_in()

    assert set(reasons(place)) == {"screw/train/good/1.png", "screw/train/good/1.2.png"}


@pytest.mark.parametrize("passes", range(9))
def test_a_kill_between_two_files_is_made_good(place: Place, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect would stay without its mask, in one folder or the other."""
    monkeypatch.setenv("STAGE_FAULT", f"a photograph's file:{passes}")
    child = os.fork()  # a new process would import for seconds
    if not child:
        place.take_in()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.delenv("STAGE_FAULT")
    (place.source / NORMAL).with_name(".0123456789abcdef.partial").touch()  # as a kill in the middle of a file leaves it

    place.take_in()
    assert place.gained() == {NORMAL, IMAGE, MASK}
    assert not place.left()


def test_a_file_that_comes_again_while_it_is_taken_in_is_not_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be deleted in the place of the one that was copied, and nobody know."""
    whole, copy = (place.drop / IMAGE).read_bytes(), shutil.copy2

    def and_upload(source: Path, target: Path) -> object:
        if source.name == Path(MASK).name:
            (place.drop / IMAGE).write_bytes(whole[:500])
        return copy(source, target)

    monkeypatch.setattr(shutil, "copy2", and_upload)
    place.take_in()

    assert (place.source / IMAGE).read_bytes() == whole
    assert (place.drop / IMAGE).read_bytes() == whole[:500]


def test_a_file_that_changes_after_it_was_judged_waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a photograph would be taken in: it was whole when it was decoded, and its copy is the same as what is there now."""
    judged = Drop.arrivals

    def and_upload(drop: Drop) -> list[Arrival]:
        found = judged(drop)
        (place.drop / IMAGE).write_bytes((place.drop / IMAGE).read_bytes()[:500])
        return found

    monkeypatch.setattr(Drop, "arrivals", and_upload)
    found = place.take_in()

    assert place.gained() == {NORMAL}
    assert [row["file"] for row in found.waiting] == [f"{IMAGE}, {MASK}"]
    assert place.left() == {IMAGE, MASK}


def test_what_a_killed_night_held_had_arrived(place: Place) -> None:
    """Its renaming counts as a change, so half of a photograph that was being copied would wait for another night."""
    held = place.drop / Path(NORMAL).parent / ".taking" / Path(NORMAL).name
    held.parent.mkdir()
    (place.drop / NORMAL).rename(held)
    os.utime(held, (0, 0))
    place.take_in(settle_s=60)

    assert place.gained() == {NORMAL}
    assert not held.parent.exists()


def test_every_file_that_is_moved_has_a_line(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The night would end the intake as one that hangs, while it sets aside or puts back tens of thousands of files."""
    held, foreign = place.drop / Path(NORMAL).parent / ".taking" / Path(NORMAL).name, "screw/train/good/1.png"
    held.parent.mkdir()
    (place.drop / NORMAL).rename(held)
    place.bring(foreign, place.source / sorted(place.before)[0])
    with caplog.at_level("INFO", "stage"):
        place.take_in()

    moved = [line for line in caplog.messages if not line.startswith("look at ")]
    assert moved == [f"put back {NORMAL}", f"take in {IMAGE}", f"take in {NORMAL}", f"set aside {foreign}"]


def test_a_source_that_another_folder_would_stand_for_is_refused(place: Place) -> None:
    """The night's worktree would read another folder, and find nothing in it."""
    params = place.params
    params = params.model_copy(update={"prepare": params.prepare.model_copy(update={"source": "raw"})})

    with pytest.raises(ConfigError, match="absolute path of a folder"):
        take_in(place.drop, params, 0.0, DAY)
