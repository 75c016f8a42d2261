"""The digest of the code: it changes with what makes a sample, and with nothing else."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from stage.core.code_digest import closure

ROOT = Path(__file__).parents[1]
BATCH = "stage.synthesis.batch"


def digest_of(root: Path, module: str = BATCH) -> str:
    """As a checkout in `root` has it."""
    spec = importlib.util.spec_from_file_location("copied_source_code", root / "stage" / "source_code.py")
    assert spec is not None
    assert spec.loader is not None
    copied: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    return copied.code_of(module)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "stage", tmp_path / "stage", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("diffusion.py", "return ", "return 1.0 * "),
        ("quality.py", "contrast", "Contrast"),
        ("synthesis/batch.py", "backgrounds", "photographs"),
        ("datasets/resize.py", "return ", "return None or "),
    ],
)
def test_code_that_makes_samples_counts(checkout: Path, file: str, before: str, after: str) -> None:
    """After a correction, the samples that the mistake had made would be taken up."""
    source = checkout / "stage" / file
    expected = digest_of(checkout)

    assert before in source.read_text()
    source.write_text(source.read_text().replace(before, after))

    assert digest_of(checkout) != expected


@pytest.mark.parametrize(
    "file", ["report/pages.py", "publication.py", "shards.py", "spool.py", "training.py", "params.py", "progress.py", "cli.py"]
)
def test_code_that_makes_no_sample_does_not_count(checkout: Path, file: str) -> None:
    """A word in the report would throw a night's samples away."""
    expected = digest_of(checkout)

    with (checkout / "stage" / file).open("a") as source:
        source.write("\nADDED = 1\n")

    assert digest_of(checkout) == expected


def test_comments_and_layout_do_not_count(checkout: Path) -> None:
    """`make format` would throw a night's samples away."""
    expected = digest_of(checkout)

    source = checkout / "stage" / "diffusion.py"
    source.write_text("# a comment\n\n\n" + source.read_text() + "\n\n")

    assert digest_of(checkout) == expected


def test_what_the_renderer_is_built_on() -> None:
    """A module that makes pixels would be forgotten, or one that has nothing to do with them count."""
    modules = closure(BATCH)

    assert {
        "stage.model.diffusion",
        "stage.model.schedule",
        "stage.model.masks",
        "stage.model.codec",
        "stage.synthesis.methods.stage",
        "stage.synthesis.quality",
    } <= {*modules}
    assert not {
        "stage.core.params",
        "stage.core.progress",
        "stage.core.work",
        "stage.jobs.job",
        "stage.model.training",
        "stage.jobs.claims",
    } & {*modules}
