"""What all tests share: one thread for torch, one Prefect server outside the repository, and nothing sent anywhere."""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from stage.core.processes import collect_rarely

OURS = "STAGE_TESTS_HOME" not in os.environ  # not of a process that pytest-xdist started: those inherit the folder
IN_MEMORY, ROOM = Path("/dev/shm"), 8 * 2**30  # Linux's, and the bytes that must be free in it; a run of all tests takes a part of them
# The product waits for the disk after each file that it writes, and tests write thousands that nobody needs after them.
PLACE = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM else None
HOME = Path(os.environ.setdefault("STAGE_TESTS_HOME", tempfile.mkdtemp(prefix="stage-", dir=PLACE) if OURS else ""))
if PLACE:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(HOME))  # of every `tmp_path`; `--basetemp` goes before it
# Before anything imports torch or Prefect, which read them once; the processes that tests start inherit them.
os.environ["OMP_NUM_THREADS"] = "1"  # torch's threads collapse when something else uses the CPU
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["PREFECT_HOME"] = str(HOME)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
# Tests start hundreds of processes of the same modules, which are compiled once, even where the machine's habit is to keep no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
for inherited in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of `make --jobs=2 test`; a make that a test starts would print what it warns of
    os.environ.pop(inherited, None)
collect_rarely()

LONGEST = (
    *("test_graph", "test_nights", "test_workers", "test_runtime", "test_chaos", "test_engines", "test_worker", "test_training"),
    *("test_segmentation", "test_report_browser", "test_at_once", "test_rounds", "test_lineage", "test_storage", "test_real_data"),
    *("test_evaluation_benchmark", "test_demo", "test_report", "test_memory", "test_recall", "test_cli_work", "test_verification"),
    *("test_sampler_benchmark", "test_base_parts", "test_publication", "test_code_digest", "test_rivals", "test_verdict"),
    *("test_candidates", "test_base", "test_jobs", "test_pretraining", "test_readme", "test_collection", "test_hostile", "test_plan"),
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where torch sees none."""
    if item.get_closest_marker("requires_gpu"):
        import torch  # here, because most tests do without it

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU that torch can use")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that none of them is left to one process at the end; `--no-loadscope-reorder` keeps it so."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Undo what a command that runs in the tests' process asked for: with more threads than one, a process that is forked from it may hang."""
    yield
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def prefect_home() -> Path:
    """A Prefect home whose server lives until the last test of all processes; flows that tests start find it, so each costs seconds less."""
    from flows import server

    server.find_or_start(HOME)
    return HOME


@pytest.fixture
def own_home(prefect_home: Path, tmp_path: Path) -> Path:
    """A Prefect home without a server, whose database is made already: that takes a server ten seconds."""
    place = tmp_path / "home"
    place.mkdir()
    with closing(sqlite3.connect(prefect_home / "prefect.db")) as source, closing(sqlite3.connect(place / "prefect.db")) as target:
        source.backup(target)
    return place


def pytest_unconfigure() -> None:
    """End the server, whose owners have gone, and remove what it wrote."""
    if not OURS:
        return
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        process = psutil.Process(json.loads((HOME / "server.json").read_text())["pid"])
        process.terminate()
        psutil.wait_procs([process], timeout=30)
    shutil.rmtree(HOME, ignore_errors=True)
