"""How a flow ends, whatever happens; and the server that flows share. Every flow here is a process, as under `dvc repro`."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from source_tree import ROOT

from flows.owner import is_alive, owner
from flows.runtime import is_loopback, limit_threads
from stage.core.processes import is_running, started_s

PATIENCE_S = 240.0
PROBE = """
import os, signal, sys, time
from pathlib import Path
import flows  # before Prefect, as for `python -m flows.<verb>`
import prefect
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from flows.runtime import run
from stage.core.errors import DataError
from stage.core.progress import track

def refuse(): raise DataError("Expected a, found b in c. Do d.")
def fail_inside_a_library():
    import json
    json.loads("1", parse_int=lambda _: int("x"))
def fill(): Path("/dev/full").write_text("x")
def wait():
    Path("begun").touch()
    for _ in track(range(1200), total=1200, label="wait"): time.sleep(0.1)
def kill_server():
    import json
    os.kill(json.loads((Path(os.environ["PREFECT_HOME"]) / "server.json").read_text())["pid"], signal.SIGKILL)
def nothing(): pass

@task(cache_policy=NO_CACHE)
def act(name): globals()[name]()

@flow(name="probe")
def probe(deed: str) -> None:
    with open("addresses", "a") as file: file.write(f"{prefect.settings.PREFECT_API_URL.value()}\\n")
    act(deed)

run(probe)
"""
INTERRUPTED = "Interrupted. Finished work is kept in .spool; run the same command to continue."
DVC = '#!/bin/sh\n"$@"\n'  # a process called dvc, with a shell between it and its command

Start = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the probe flow in a process group of its own, in an empty folder with params.yaml; ends what is left of it."""
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "dvc").write_text(DVC)
    (tmp_path / "dvc").chmod(0o755)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    begun: list[subprocess.Popen[str]] = []

    def begin(command: str, **settings: object) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in settings.items()}}
        process = subprocess.Popen(
            ["bash", "-c", command.replace("PROBE", f"{sys.executable} probe.py")],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit status and what was said on stderr."""
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def last_run(home: Path) -> tuple[str, str, str]:
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return database.execute(
            "select name, state_name, tags from flow_run where name like 'probe %' order by created desc limit 1"
        ).fetchone()


@pytest.mark.parametrize(
    "settings",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9", "SSL_CERT_FILE": "/no/such.pem", "SSL_CERT_DIR": "/no/such"},
        {
            "http_proxy": "http://127.0.0.1:9",
            "no_proxy": "example.com",
            "NO_PROXY": "127.0.0.1",
            "SSLKEYLOGFILE": "/no/such/log",
            "PREFECT_API_SSL_CERT_FILE": "/no/such.pem",
        },
    ],
)
def test_a_completed_flow_is_quiet_and_recorded_under_its_parent(prefect_home: Path, start: Start, settings: dict[str, str]) -> None:
    """Prefect's chatter would hide what the flow has to say; or a nightly run could not be followed down to the flows it caused.

    Or whoever works behind a proxy, or has moved a file of certificates, could run no flow, though flows talk to their own machine alone.
    """
    parent = "0193f6a2-7c1e-7d3a-9b60-2f5f1f0a4711"
    assert end(start("PROBE nothing", STAGE_PARENT_FLOW_RUN=parent, **settings)) == (0, "")  # `dvc` between the two forgets it
    assert last_run(prefect_home) == ("probe nothing", "Completed", f'["parent:{parent}"]')


def test_a_refusal_is_one_message(prefect_home: Path, start: Start) -> None:
    """A user with a bad image would have to read a traceback."""
    assert end(start("PROBE refuse")) == (1, "Expected a, found b in c. Do d.\n")
    assert last_run(prefect_home)[:2] == ("probe refuse", "Refused")


def test_a_full_disk_is_one_message(prefect_home: Path, start: Start) -> None:
    """A night would end in a traceback of whatever was being published."""
    status, errors = end(start("PROBE fill"))

    assert status == 1
    assert errors.startswith("Expected room on the disk for the work in ")
    assert "[Errno 28] No space left on device" in errors
    assert "Traceback" not in errors
    assert last_run(prefect_home)[:2] == ("probe fill", "Refused")


def test_an_unexpected_error_keeps_its_traceback(prefect_home: Path, start: Start) -> None:
    """A defect of ours could not be found, or a ValueError inside a library would be shown as the user's mistake."""
    status, errors = end(start("PROBE fail_inside_a_library"))

    assert status == 1
    assert errors.count("Traceback") == 1
    assert "json.loads(" in errors
    assert last_run(prefect_home)[:2] == ("probe fail_inside_a_library", "Failed")


def test_an_interruption_while_prefect_is_imported_ends_alike(start: Start, tmp_path: Path) -> None:
    """Ctrl-C in the first seconds of a DVC stage would end in fifty lines of a library's import."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "__init__.py").write_text("raise KeyboardInterrupt\n")

    command = f"{sys.executable} -m flows.prepare"
    assert end(start(command, PYTHONPATH=f"{tmp_path}:{ROOT}")) == (130, f"{INTERRUPTED}\n")


def test_wrong_arguments_get_the_usage(start: Start) -> None:
    """A mistyped command would end in a traceback of the command line's parser."""
    status, errors = end(start("PROBE a b"))

    assert status == 1
    assert errors.startswith("Expected 1 argument, found 2")
    assert "Run `python -m flows.probe DEED`." in errors


def test_the_users_api_is_used(prefect_home: Path, own_home: Path, start: Start, tmp_path: Path) -> None:
    """Someone with a Prefect server would not see the runs there; or could run no flow behind a proxy, though the server is on this machine."""
    url = json.loads((prefect_home / "server.json").read_text())["url"]
    proxies = {"HTTP_PROXY": "nonsense://", "https_proxy": "http://[", "no_proxy": "[", "SSL_CERT_FILE": "/no/such.pem"}
    status, errors = end(start("PROBE nothing", PREFECT_HOME=own_home, PREFECT_API_URL=url, **proxies))

    assert (status, errors) == (0, "")
    assert (tmp_path / "addresses").read_text().split() == [url]
    assert not (own_home / "server.json").exists()


def test_flows_of_one_dvc_share_a_server_that_is_replaced_if_killed_and_ends_with_it(own_home: Path, start: Start, tmp_path: Path) -> None:
    """Nine flows would start nine servers, or a finished `dvc repro` would leave one behind; two at once would collide.

    Or the first would wait in vain for a server that reads a file of certificates which is gone. Or finished work would count as failed
    because its record could not be written, and later flows would look for a dead server.
    """
    stale = {"SSL_CERT_FILE": "/no/such.pem", "PREFECT_API_SSL_CERT_FILE": "/no/such.pem", "SSLKEYLOGFILE": "/no/such/log"}
    flows = "{ PROBE nothing & PROBE nothing & wait; } 2> of-two; PREFECT_CLIENT_MAX_RETRIES=1 PROBE kill_server && PROBE nothing"
    status, errors = end(start(f"./dvc bash -c '{flows}'", PREFECT_HOME=own_home, **stale))
    addresses = (tmp_path / "addresses").read_text().split()

    assert status == 0
    assert not (tmp_path / "of-two").read_text()
    assert "Traceback" not in errors
    assert len(addresses) == 4
    assert len(set(addresses[:3])) == 1
    assert addresses[3] != addresses[0]
    until(lambda: not (own_home / "server.json").exists())


def test_without_a_server_of_ours_prefect_uses_its_own(own_home: Path, start: Start, tmp_path: Path) -> None:
    """A lock that cannot be had would stop all work."""
    (own_home / "server.lock").mkdir()
    status, errors = end(start("PROBE nothing", PREFECT_HOME=own_home))

    assert status == 0
    assert errors.startswith("Prefect did not answer")
    assert "Traceback" not in errors
    assert (tmp_path / "addresses").exists()


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:4200/api", True),
        ("http://localhost:4200/api", True),
        ("http://[::1]:4200/api", True),
        ("http://127.1.2.3/api", True),
        ("https://api.prefect.cloud/api", False),
        ("http://10.0.0.1/api", False),
    ],
)
def test_a_distant_api_is_reached_by_the_users_proxies(url: str, local: bool) -> None:
    """A Prefect server outside the company's network would not be reached."""
    assert is_loopback(url) is local


def test_a_flow_ends_with_its_dvc(prefect_home: Path, start: Start, tmp_path: Path) -> None:
    """Killing `dvc` would leave its command at work, against the one that the next `dvc repro` starts."""
    process = start("exec ./dvc bash -c 'PROBE wait; true'")
    until((tmp_path / "begun").exists)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)

    assert not alive
    assert INTERRUPTED in end(process)[1]  # the flow was told by SIGTERM
    assert last_run(prefect_home)[:2] == ("probe wait", "Cancelled")


def test_an_address_of_a_process_that_is_gone_is_not_used() -> None:
    """After a crash of the machine every flow would wait for a server that is not there."""
    ended = subprocess.Popen(["true"])
    started = started_s(psutil.Process(ended.pid))
    ended.wait()

    assert not is_running(ended.pid, started)
    assert not is_running(os.getpid(), started_s(psutil.Process()) + 2)
    assert is_running(os.getpid(), started_s(psutil.Process()))


def test_a_clock_that_is_set_ends_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server would retire under its flows when the clock is corrected: the times of the machine and of processes both shift."""
    started, boot, created = started_s(psutil.Process()), psutil.boot_time(), psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + 3600)

    assert is_running(os.getpid(), started)


@pytest.mark.parametrize(("error", "alive"), [(psutil.NoSuchProcess(1), False), (OSError(24, "Too many open files"), True)])
def test_the_watch_on_the_owner_survives_what_it_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception, alive: bool) -> None:
    """An owner that ends between two questions would end the watch, and the flow would go on without an owner."""

    def status(_process: psutil.Process) -> str:
        raise error

    monkeypatch.setattr(psutil.Process, "status", status)

    assert is_alive(psutil.Process()) is alive


def test_without_dvc_a_process_owns_itself() -> None:
    """The server of a single `python -m flows.<verb>` would outlive it."""
    assert owner().pid == os.getpid()


def test_torch_uses_as_many_threads_as_params_say() -> None:
    """The machine would be shared otherwise than params.yaml says, also by processes that a flow starts."""
    import torch

    before = torch.get_num_threads()
    limit_threads(before + 1)

    assert torch.get_num_threads() == before + 1
    assert os.environ["OMP_NUM_THREADS"] == str(before + 1)

    limit_threads(before)
