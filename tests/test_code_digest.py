"""The digest of the code: it changes with what makes a result, and with nothing else."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from stage.core.code_digest import reachable
from stage.synthesis.method import METHODS

ROOT = Path(__file__).parents[1]
STAGE = ("stage.synthesis.methods.stage:renderer", "stage.synthesis.batch:write_batch")
PASTE = ("stage.synthesis.methods.paste:renderer", "stage.synthesis.batch:write_batch")


def digest_of(root: Path, functions: tuple[str, ...] = STAGE) -> str:
    """As a checkout in `root` has it."""
    spec = importlib.util.spec_from_file_location("copied_code_digest", root / "stage/core/code_digest.py")
    assert spec is not None
    assert spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    return copied.code_digest(*functions)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "stage", tmp_path / "stage", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("model/diffusion.py", "    return ", "    return 1.0 * "),
        ("model/schedule.py", "CLEAN = ", "CLEAN = 0 + "),
        ("synthesis/quality.py", '"empty mask"', '"no mask"'),
        ("synthesis/batch.py", "backgrounds = ", "photographs = backgrounds = "),
        ("datasets/resize.py", "    return ", "    return None or "),
    ],
)
def test_statements_that_make_samples_count(checkout: Path, file: str, before: str, after: str) -> None:
    """After a correction, the samples that the mistake had made would be taken up."""
    expected = digest_of(checkout)

    edit(checkout / "stage" / file, before, after)

    assert digest_of(checkout) != expected


@pytest.mark.parametrize("file", ["report/pages.py", "release/shards.py", "core/work.py", "model/training.py", "core/progress.py"])
def test_statements_that_make_no_sample_do_not_count(checkout: Path, file: str) -> None:
    """A word in the report would throw a night's samples away."""
    expected = digest_of(checkout)

    source = checkout / "stage" / file
    source.write_text(source.read_text().replace("    return ", "    return None or "))

    assert digest_of(checkout) == expected


def test_a_function_that_nobody_calls_does_not_count(checkout: Path) -> None:
    """Two results that share a module would be made again for each other's changes."""
    expected = digest_of(checkout)

    with (checkout / "stage/model/diffusion.py").open("a") as source:
        source.write("\n\ndef added() -> int:\n    return 1\n")

    assert digest_of(checkout) == expected


def test_comments_docstrings_and_layout_do_not_count(checkout: Path) -> None:
    """A corrected sentence would throw a night's samples away."""
    expected = digest_of(checkout)

    for source in (checkout / "stage").rglob("*.py"):
        text = re.sub(r'(def \w+\([^\n]*:\n    """)', r"\1Changed: ", source.read_text())
        source.write_text("# a comment\n\n\n" + text + "\n\n")

    assert digest_of(checkout) == expected


def test_a_moved_module_does_not_count(checkout: Path) -> None:
    """Tidying the house would cost a night."""
    expected = digest_of(checkout)

    (checkout / "stage/datasets/resize.py").rename(checkout / "stage/core/resize.py")
    for source in (checkout / "stage").rglob("*.py"):
        source.write_text(source.read_text().replace("stage.datasets.resize", "stage.core.resize"))

    assert digest_of(checkout) == expected


def test_each_method_has_a_digest_of_its_own(checkout: Path) -> None:
    """A change of one method would make the samples of all."""
    stage, paste = digest_of(checkout), digest_of(checkout, PASTE)

    edit(checkout / "stage/synthesis/methods/paste.py", "np.rint(", "np.floor(")

    assert digest_of(checkout) == stage
    assert digest_of(checkout, PASTE) != paste


def test_what_a_renderer_is_built_on() -> None:
    """A function that makes pixels would be forgotten, or one that has nothing to do with them count."""
    modules = {one.module for one in reachable(*STAGE)}

    assert {
        "stage.model.diffusion",
        "stage.model.schedule",
        "stage.model.codec",
        "stage.model.checkpoints",
        "stage.synthesis.quality",
    } <= modules
    assert not {one for one in modules if one.startswith(("stage.jobs", "stage.release", "stage.report", "stage.core.params"))}
    assert not {one for one in {one.module for one in reachable(*PASTE)} if one.startswith("stage.model")}


@pytest.mark.parametrize("name", list(METHODS))
def test_planning_and_rendering_are_told_apart(name: str) -> None:
    """A changed plan of the same rows would render them again."""
    assert METHODS[name].planning_code() != METHODS[name].rendering_code()
