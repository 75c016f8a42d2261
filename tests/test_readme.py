"""README.md tells the truth: its tree exists, and its commands work.

A block "```text tree" lists a path per line, then what it is. The commands in a block "```sh" are run here, unless its first line
is "# not run by the tests"; then only their verbs must exist.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_RUN = "# not run by the tests"
PROGRAMS = Path(sys.executable).parent


def block_lines(kind: str) -> list[str]:
    return [line.strip() for block in blocks(kind) for line in block.splitlines() if line.strip()]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(*, are_run: bool) -> list[str]:
    """The commands of the blocks that are run here, or of the others, without what is said of them."""
    lines = [line for block in blocks("sh") if block.startswith(NOT_RUN) is not are_run for line in block.splitlines()]
    return [command for line in lines if (command := line.partition("#")[0].strip())]


def shell(command: str) -> subprocess.CompletedProcess[str]:
    script = f'export PATH="{PROGRAMS}:$PATH"; {command}'
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_every_path_of_the_tree_exists() -> None:
    """A newcomer would look for what is not there."""
    paths = [line.split()[0] for line in block_lines("text tree")]

    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_tracked_top_level_entry_is_in_the_tree() -> None:
    """A newcomer would find what nobody explained."""
    tracked = {line.split("/")[0] for line in shell("git ls-files").stdout.splitlines()}
    named = {line.split()[0].split("/")[0] for line in block_lines("text tree")}

    assert not {name for name in tracked - named if not name.startswith(".")}


@pytest.mark.parametrize("command", commands(are_run=True))
def test_command_works(command: str) -> None:
    """The first thing that someone types would fail."""
    done = shell(command)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands(are_run=False))
def test_verb_of_a_long_command_exists(command: str) -> None:
    """A command that takes too long for a test would be gone, or spelt otherwise."""
    program, *words = command.split()
    verb = next((word for word in words if not word.startswith("-")), "")
    check = {
        "make": f"make -n {verb}",
        "stage": f"stage {verb} --help",
        "dvc": f"dvc {verb} --help",
        "cp": f"test -f {verb}",
        "git": f"git help -a | grep '^ *{verb} '",
    }[program]
    done = shell(check)

    assert done.returncode == 0, done.stderr
