"""Where a project lies, and what it is run with: refused before any work, or taken as it is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from source_tree import ROOT

from flows import environment
from stage.core.errors import MachineError
from stage.report.provenance import revision


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, another disk beside it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("link", ["data", "data/synthesize", "data/segment/fabric"])
@pytest.mark.parametrize("target", ["../disk", "/nowhere"])
def test_results_behind_a_link_are_refused_before_they_are_made(project: Path, link: str, target: str) -> None:
    """DVC would refuse the results of a night, because they lie outside of the checkout."""
    (project / link).parent.mkdir(parents=True, exist_ok=True)
    (project / link).symlink_to(target if target.startswith("/") else project / target)

    with pytest.raises(MachineError, match=rf"found that {link} is a link to .*: DVC keeps nothing .* Run `rm {link}`"):
        environment.check_places()


def test_links_to_files_are_dvcs_own(project: Path) -> None:
    """A cache of the type `symlink` could not be used."""
    (project / "data/prepare/fabric").mkdir(parents=True)
    for place in ("data/prepare/summary.json", "data/prepare/fabric/catalog.parquet"):
        (project / place).symlink_to(ROOT / "params.yaml")

    environment.check_places()


def test_the_first_step_ends_with_one_message(project: Path) -> None:
    """A traceback would stand before the advice."""
    with pytest.raises(SystemExit, match="Expected a parameter file at"):
        environment.main()


def test_a_checkout_without_commits_is_told_as_one(project: Path) -> None:
    """The report would name a revision that does not exist: git answers `HEAD` where there is no commit."""
    assert revision() == "not under git"
    subprocess.run(["git", "init", "-q"], check=True)
    assert revision() == "under git, without a commit"


@pytest.mark.parametrize("flags", ["-euo pipefail -c", "-c"])
def test_make_fails_with_dvc_on_every_make(project: Path, flags: str) -> None:
    """GNU Make 3.81, which macOS has, ignores .SHELLFLAGS: a failed run would count as a good one, because `tee` succeeds."""
    shutil.copy(ROOT / "Makefile", project)
    shutil.copy(ROOT / "params.yaml", project)
    (project / "pyproject.toml").touch()
    (project / ".ci").mkdir()
    (project / ".ci/requirements.lock").touch()
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/.installed").touch()
    (project / ".venv/bin/dvc").write_text("#!/bin/sh\necho Running stage 'prepare'\nexit 3\n")
    (project / ".venv/bin/dvc").chmod(0o755)
    subprocess.run(["git", "init", "-q"], check=True)
    done = subprocess.run(["make", f".SHELLFLAGS={flags}", "demo"], capture_output=True, text=True, check=False)

    assert done.returncode
    assert "The report" not in done.stdout


def test_the_lock_is_renewed_as_documented(project: Path) -> None:
    """Nobody could renew it: an empty one fails its test. Or it had CUDA's packages, or everything were installed a second time."""
    [goals] = re.findall(r"rm -r \.venv; make ([a-z ]+)`", (ROOT / "docs/nights.md").read_text(encoding="utf-8"))
    shutil.copy(ROOT / "Makefile", project)
    (project / "pyproject.toml").touch()
    (project / ".ci").mkdir()
    (lock := project / ".ci/requirements.lock").write_text("# Every package\n")
    (project / ".venv/bin").mkdir(parents=True)
    frozen = "torch==2.13.0+cu130\nnvidia-nccl-cu13==2.28.9\nnvidia_x==1\ncuda-bindings==13.0.3\ntriton==3.6.0\nzict==3.0.0"
    script = f"case \"$*\" in *freeze*) echo '{frozen}';; *pytest*) grep -q == .ci/requirements.lock;; esac"
    (project / ".venv/bin/python").write_text(f"#!/bin/sh\n{script}\n")
    (project / ".venv/bin/python").chmod(0o755)
    make = ["make", "PYTHON=.venv/bin/python"]
    subprocess.run([*make, *goals.split()], check=True)

    assert lock.read_text() == "# Every package\ntorch==2.13.0\nzict==3.0.0\n"
    subprocess.run([*make, "--question", ".venv/.ready-to-test"], check=True)
