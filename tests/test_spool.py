"""Unfinished work: found again only for the very same inputs, published in one move."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from stage.core.params import load_params
from stage.core.work import code_digest, publish, spool_folder, work_key

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
