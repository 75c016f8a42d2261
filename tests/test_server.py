"""Prefect's server where several machines or containers share a project's folder; each is a process that believes another host's name."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from source_tree import ROOT

from flows import home as places
from flows.server import has_retired
from stage.core.processes import started_s

PATIENCE_S = 90.0
OWNER = """
import sys
from pathlib import Path
from flows.server import find_or_start
print(find_or_start(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Machine:
    """A host that shares `home`: its processes, and all that they start, are told its name."""

    def __init__(self, name: str, home: Path, folder: Path) -> None:
        self.name, self.home, self.folder, self.owners = name, home, folder, list["subprocess.Popen[str]"]()
        (folder / name).mkdir()
        (folder / name / "sitecustomize.py").write_text(f"import socket\nsocket.gethostname = lambda: {name!r}\n")

    def find(self) -> str:
        """The address that a new owner is given, who lives until `leave`."""
        environment = {**os.environ, "PYTHONPATH": f"{self.folder / self.name}:{ROOT}"}
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(self.home)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.owners.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def leave(self) -> None:
        """End all owners."""
        for process in self.owners:
            process.communicate()


@pytest.fixture
def home(own_home: Path) -> Iterator[Path]:
    """A home that machines share, its databases already made; its servers end with the test."""
    for name in ("north", "south"):
        (own_home / name).mkdir()
        shutil.copy(own_home / "prefect.db", own_home / name)
    yield own_home
    for noted in own_home.rglob("server.json"):
        psutil.Process(json.loads(noted.read_text())["pid"]).kill()


def until_gone(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_every_machine_has_a_server_that_ends_with_its_own_flows(home: Path, tmp_path: Path) -> None:
    """A second machine on the shared disk would make the first one's server retire under its flows, and open the same database."""
    north, south = Machine("north", home, tmp_path), Machine("south", home, tmp_path)
    first = north.find()
    other = south.find()

    assert first != other
    assert south.find() == other
    assert north.find() == first
    assert (home / "south" / "server.json").exists()

    south.leave()
    until_gone(home / "south" / "server.json")
    assert north.find() == first

    north.leave()
    until_gone(home / "server.json")


def foreign(home: Path, beat: float) -> None:
    """A server of another machine, whose last heartbeat was at that time."""
    (home / "server.json").write_text(
        json.dumps({"url": "http://127.0.0.1:9/api", "machine": ["north", "x"], "pid": os.getpid(), "started": 0})
    )
    os.utime(home / "server.json", (beat, beat))


def test_a_folder_whose_machine_is_gone_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a machine is retired or restarted, the folder's history would be closed to all others."""
    monkeypatch.setattr(places, "LOOK_S", 0.2)
    foreign(tmp_path, time.time() - 3600)

    assert not places.is_anothers(tmp_path)


def test_clocks_that_differ_cost_no_server_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set, or a machine that is an hour ahead, would take a living server's folder and its database."""
    monkeypatch.setattr(places, "POLL_S", 0.01)
    foreign(tmp_path, time.time() - 3600)

    def beat(_seconds: float) -> None:
        os.utime(tmp_path / "server.json", (time.time() - 3599, time.time() - 3599))

    monkeypatch.setattr(time, "sleep", beat)

    assert places.is_anothers(tmp_path)


def test_a_server_whose_folder_another_machine_has_taken_retires(tmp_path: Path) -> None:
    """A machine that slept through its lease would write into a database that another one has open."""
    foreign(tmp_path, time.time())

    assert has_retired(tmp_path, os.getpid())
    assert (tmp_path / "server.json").exists()


def test_owners_of_another_machine_are_not_looked_for_here(tmp_path: Path) -> None:
    """A process of the same number would keep a server alive that nobody uses."""
    me = psutil.Process()
    (tmp_path / "owners.json").write_text(json.dumps({"machine": ["north", "x"], "processes": [[me.pid, started_s(me)]]}))

    assert has_retired(tmp_path, os.getpid())
