"""What `stage doctor` finds on a machine and in a project, each with the next command, before a night finds it out."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from commands import run
from small_disk import small_disk
from source_tree import ROOT

from stage.cli.terminal import writable
from stage.core.errors import Refusal
from stage.core.params import Params, load_params
from stage.core.processes import started_s
from stage.nights.doctor import examine
from stage.nights.git_locks import remove_abandoned
from stage.nights.leftovers import leftovers
from stage.nights.machine import LEAST_FREE, Finding, disks, gpu, proxies
from stage.nights.remotes import _near, code_remote, data_remotes
from stage.nights.schedule import schedule
from stage.nights.settings import Places, load_nightly
from stage.nights.silence import answers

LONG_AGO = 1_000_000_000.0  # s
PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Usage(NamedTuple):
    """Of a disk, in bytes, as `shutil.disk_usage` tells it."""

    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own settings."""
    for name in (*PROXY_NAMES, *map(str.upper, PROXY_NAMES), "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def told(found: Iterable[Finding]) -> str:
    return "\n".join(f"{one.level} {one.what}: {one.found} {one.mend}" for one in found)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "localhost"}, ""),  # `make nightly-up` goes past it to its own server
        ({"all_proxy": "ftp://name:word@proxy:21"}, "fails proxy: all_proxy is ftp, none of http, https, socks5, socks5h"),
        ({"https_proxy": "proxy:3128"}, ""),  # httpx takes it for http
        ({"travis_apt_proxy": "ftp://proxy:3128"}, ""),  # httpx does not read it
        ({"https_proxy": "socks4://proxy:1080"}, "fails proxy: https_proxy is socks4, none of http, https, socks5, socks5h"),
        (
            {"SSL_CERT_FILE": "/nowhere.pem"},
            "fails certificates: SSL_CERT_FILE is /nowhere.pem, which is not there Run `unset SSL_CERT_FILE`",
        ),
    ],
)
def test_a_proxy_that_python_cannot_use_is_found(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    """The night's first request would end in a traceback of an HTTP library."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    found = told(proxies())

    assert found.startswith(expected)
    assert bool(found) == bool(expected)
    assert "name:word" not in found


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Every client would raise ImportError at its first request."""
    monkeypatch.setenv("https_proxy", f"{kind}://proxy:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed

    assert told(proxies()) == f"fails proxy: https_proxy is {kind}, which needs a package Run `pip install socksio`, or name an HTTP proxy."


DRIVERS = {
    "answers": "echo 'NVIDIA H200, 570.86.15, 143771, 140000'",
    "is busy": "echo 'NVIDIA H200, 570.86.15, 143771, 1000'",
    "tells no memory": "echo 'NVIDIA GB10, 580.95.05, [N/A], [N/A]'",
    "fails": "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
}


def with_driver(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """A machine whose driver's program says so."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{DRIVERS[name]}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def params(device: str) -> Params:
    whole = load_params(ROOT / "params.yaml")
    return whole.model_copy(update={"execution": whole.execution.model_copy(update={"device": device})})


@pytest.mark.parametrize(
    ("device", "driver", "visible", "expected"),
    [
        ("cpu", "fails", None, ""),
        ("auto", "fails", None, ""),
        ("cuda", "fails", None, "fails GPU: execution.device is cuda, but no driver answers"),
        ("cuda", "answers", "", "fails GPU: CUDA_VISIBLE_DEVICES is '', which hides every GPU Run `unset CUDA_VISIBLE_DEVICES`"),
        ("auto", "answers", "-1", "look GPU: CUDA_VISIBLE_DEVICES is '-1', which hides every GPU"),
        ("cuda", "answers", "0,7", "fails GPU: CUDA_VISIBLE_DEVICES is '0,7', and '7' names none of this machine's GPUs (1)"),
        ("cuda", "answers", "all", "fails GPU: CUDA_VISIBLE_DEVICES is 'all', and 'all' names none of this machine's GPUs (1)"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, driver: str, visible: str | None, expected: str
) -> None:
    """A night would refuse at its first training, or take days on the CPU without a word."""
    with_driver(monkeypatch, tmp_path, driver)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    found = told(gpu(params(device)))

    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_driver_without_a_gpu_that_torch_sees_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commonest of all: a driver that is older than this torch."""
    torch = pytest.importorskip("torch")
    with_driver(monkeypatch, tmp_path, "answers")
    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")

    assert told(gpu(params("cuda"))).startswith("fails GPU: driver 570.86.15 answers, but torch sees none: ")
    assert told(gpu(params("auto"))).startswith("look GPU: ")


def test_a_torch_without_cuda_is_not_blamed_on_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever updated the driver would be no further."""
    torch = pytest.importorskip("torch")
    with_driver(monkeypatch, tmp_path, "tells no memory")
    monkeypatch.setattr(torch.version, "cuda", None)

    found = told(gpu(params("cuda")))

    assert found.startswith("fails GPU: driver 580.95.05 answers, but torch sees none: torch ")
    assert "built with CUDA" in found
    assert "Update the driver" not in found


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        ("answers", "fine GPU: NVIDIA H200, driver 570.86.15, 136.7 of 140.4 GiB are free "),
        ("is busy", "look GPU: NVIDIA H200, driver 570.86.15, 1.0 of 140.4 GiB are free Run `nvidia-smi`, which says who has the rest."),
        ("tells no memory", "fine GPU: NVIDIA GB10, driver 580.95.05, which does not report its memory "),
    ],
)
def test_the_memory_of_a_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, expected: str) -> None:
    """A training beside another program's would run out of memory."""
    torch = pytest.importorskip("torch")
    with_driver(monkeypatch, tmp_path, driver)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)  # as torch does where it sees a GPU

    assert told(gpu(params("cuda"))) == expected


def test_each_disk_is_looked_at_once_and_says_what_may_go(tmp_path: Path) -> None:
    """A cache on a full disk of its own would end the night at its push."""
    (one,) = disks({"disk": tmp_path, "spool": tmp_path / "not there", "DVC cache": tmp_path / "cache"}, {"DVC cache": 10**18})
    assert told([one]).startswith("fails disk: ")
    assert "stage gc --dry-run" in one.mend

    (fine,) = disks({"drop folder": tmp_path}, {})
    assert (fine.what, fine.level == "fails") == ("drop folder", psutil.disk_usage(str(tmp_path)).free < LEAST_FREE)


def test_a_disk_without_room_for_more_files_is_found(tmp_path: Path) -> None:
    """It has gigabytes, and takes no file: DVC keeps one for each of ours."""
    with small_disk(tmp_path, "size=2g,nr_inodes=64") as is_mounted:
        if not is_mounted:
            pytest.skip("A FULL DISK IS NOT TESTED: this user may mount none")
        assert "room for 6" in told(disks({"DVC cache": tmp_path / "cache"}, {}))


def test_a_cache_on_a_disk_of_its_own_needs_room_for_a_version(tmp_path: Path) -> None:
    """Asked for the least, it would be full in the middle of a night."""
    with small_disk(tmp_path, "size=64g") as is_mounted:
        if not is_mounted:
            pytest.skip("A DISK OF ITS OWN IS NOT TESTED: this user may mount none")
        places = {"disk": ROOT, "worktree": tmp_path / "worktree", "DVC cache": tmp_path / "cache"}
        assert "a night may need 80.0 (" in told(disks(places, {"worktree": 4 * 10**10, "DVC cache": 4 * 10**10}))


def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has room for this night, and not for many more."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: Usage(10**12, 97 * 10**10, 3 * 10**10))

    assert "look DVC cache: 30.0 GB are free, a night may need 1.1, 97 % of it are used" in told(disks({"DVC cache": tmp_path}, {}))


def as_nobody(question: Callable[[], str]) -> str:
    """The answer of a process without rights; root may enter every folder."""
    end, begin = os.pipe()
    child = os.fork()
    if not child:
        try:
            if not os.geteuid():
                os.setuid(65534)
            os.write(begin, question().encode())
        finally:
            os._exit(0)
    os.close(begin)
    os.waitpid(child, 0)
    with os.fdopen(end, encoding="utf-8") as file:
        return file.read()


def test_a_folder_that_may_not_be_entered_is_a_finding_and_no_traceback() -> None:
    """The one tool that is to say what is wrong would end in a traceback over it, and name no folder."""
    closed = Path("/tmp") / f"closed-{os.getpid()}"  # the tests' own folder is closed to others anyway
    closed.mkdir(mode=0o700 if not os.geteuid() else 0)

    def refusal() -> str:
        with pytest.raises(Refusal) as refused:
            writable(closed / "own" / "x.png")
        return str(refused.value)

    try:
        assert as_nobody(lambda: told([_near(closed / "store")])).startswith(f"fails DVC remote: {closed}/store: {closed} may not be")
        assert "drop folder: " in as_nobody(lambda: told(disks({"drop folder": closed / "drop"}, {})))
        assert f"{closed} is a folder that may not be written, or entered." in as_nobody(refusal)
    finally:
        closed.rmdir()


def test_what_was_left_behind_is_found_and_nothing_that_is_at_work(tmp_path: Path) -> None:
    """A lock of a killed tool would end every night; and whoever removed a living one's would spoil its work."""
    project, places = tmp_path, Places(tmp_path)
    assert told(leftovers(places)) == ""

    (project / ".git").mkdir()
    (project / ".git/index.lock").touch()
    (project / ".git/refs/remotes/origin").mkdir(parents=True)
    (project / ".git/refs/remotes/origin/main.lock").touch()
    (project / ".git/MERGE_HEAD").touch()
    lock = places.worktree / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True)
    lock.touch()  # as a disk that was full left it
    for name in ("data/segment/part/.0123.partial", "data/prepare/.part.leaving", ".spool/batches/.old"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
        os.utime(project / name, (LONG_AGO, LONG_AGO))
    (project / "data/segment/part/.4567.partial").touch()
    (project / "data/prepare/.gone.partial").symlink_to("nowhere")  # listed, and gone when it is looked at

    found = told(leftovers(places))

    assert f"look git lock: {project}/.git/index.lock" in found
    assert f"look git lock: {project}/.git/refs/remotes/origin/main.lock" in found
    assert "look git: a merge is unfinished; the night runs what is committed Finish it, or run `git merge --abort`." in found
    assert f"fails DVC lock: {lock} cannot be read, and DVC refuses to work Where no DVC works: `rm {lock}`." in found
    assert "look data: 2 files under temporary names" in found
    assert "look spool: 1 file under temporary names, of killed processes Run `stage gc`." in found

    lock.write_text(json.dumps({"write": {"data/x": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}))
    assert f"look DVC lock: process {os.getpid()} works in" in told(leftovers(places))
    (project / "dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n=======\nstages: {a: 1}\n>>>>>>> theirs\n")
    found = told(leftovers(places))
    assert "fails DVC lock: Expected YAML" in found
    assert f"Run `git -C {project} checkout HEAD dvc.lock`." in found
    assert "look data: 2 files" in found  # what comes after it is told as well


def test_a_lock_of_git_that_ends_every_night_is_told_as_such(tmp_path: Path) -> None:
    """It would be one of many things worth a look; or one be removed that a git at work holds."""
    folder = tmp_path / ".git"
    young, old, older, own = (
        folder / name for name in ("refs/tags/a.lock", "refs/heads/b.lock", "packed-refs.lock", "worktrees/worktree/HEAD.lock")
    )
    for lock, changed in ((young, time.time()), (old, max(time.time() - 4000, psutil.boot_time() + 1)), (older, LONG_AGO), (own, LONG_AGO)):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        os.utime(lock, (changed, changed))
    found = told(leftovers(Places(tmp_path)))

    assert f"look git lock: {young}; another git works, or was killed Where none works: `rm {young}`." in found
    assert f"fails git lock: {old}, over an hour old" in found
    assert f"look git lock: {older}, older than the machine's start; the next night removes it Or run `rm {older}`." in found
    assert f"look git lock: {own}; " in found
    assert remove_abandoned(folder) == [older]


def test_every_file_left_behind_in_either_tree_is_in_the_command(tmp_path: Path) -> None:
    """Whoever ran the command would find the rest at the next look; and a space in a path must not make it remove another folder."""
    places = Places(tmp_path / "my project")
    few = [places.root / f"data/prepare/.{name}.partial" for name in "ab"]
    many = [places.worktree / f"data/segment/part/.{name}.leaving" for name in "abcd"]
    for file in (*few, *many):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (LONG_AGO, LONG_AGO))

    of_root, of_night = (one.mend.split("`")[1::2] for one in leftovers(places))

    assert set(shlex.split(of_root[0])) == {"rm", "-r", *map(str, few)}
    listed = subprocess.run(of_night[0], shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(listed) == set(map(str, many))
    subprocess.run(" ".join(of_night), shell=True, check=True)
    assert not any(file.exists() for file in many)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of git and DVC with remotes of four kinds."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "nightly.yaml").write_bytes((ROOT / "nightly.yaml").read_bytes())
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for command in (["git", "init", "--quiet", "--initial-branch", "main"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    remotes = {"near": "../store", "cloud": "s3://bucket/samples", "own": "s3://other/samples", "far": "azure://container/samples"}
    for name, address in remotes.items():
        with (folder / ".dvc" / "config").open("a") as file:
            file.write(f"['remote \"{name}\"']\n    url = {address}\n" + "    profile = ours\n" * (name == "own"))
    return folder


def test_a_distant_remote_needs_its_package_and_credentials(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data would be made all night, and not be pushed."""
    places = Places(project)
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = {one.found.split()[0].rstrip(":"): one for one in data_remotes(places, load_nightly(project))}

    assert shown[str(project / "store")].level == "look"
    assert (shown["azure://container/samples"].level, shown["azure://container/samples"].mend) == (
        "fails",
        "Run `pip install 'dvc[azure]'`.",
    )
    if shown["s3://bucket/samples"].level == "fails":
        assert shown["s3://bucket/samples"].mend == "Run `pip install '.[s3]'`."
        return
    assert "no credentials" in shown["s3://bucket/samples"].found
    assert "no credentials" not in shown["s3://other/samples"].found
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert "no credentials" not in told(data_remotes(places, load_nightly(project)))


def test_a_folder_that_is_gone_or_a_file_is_no_remote(project: Path) -> None:
    """With its disk not mounted, every version would be missing; and a push would fill the disk below, or fail."""
    places, store = Places(project), project / "store"

    def found() -> tuple[str, str]:
        return next((one.level, one.found) for one in data_remotes(places, load_nightly(project)) if str(store) in one.found)

    assert found() == ("look", f"{store} does not exist")
    store.touch()
    assert found() == ("fails", f"{store}: {store} is a file")
    store.unlink()
    store.mkdir()
    assert found() == ("fine", str(store))
    store.rmdir()


def test_a_remote_that_can_be_read_and_not_written_is_found(project: Path, tmp_path: Path) -> None:
    """The night would work for hours, and fail at its push."""
    places, settings, bare = Places(project), load_nightly(project), tmp_path / "bare.git"

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments], cwd=project, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "--quiet", "--bare", str(bare))
    commit = git("commit-tree", git("mktree"), "-m", "first")
    git("remote", "add", "origin", str(bare))
    git("push", "--quiet", "origin", f"{commit}:refs/heads/main")
    assert code_remote(places, settings, commit) == Finding("fine", "git remote", "origin answers and takes a push")

    git("config", "remote.origin.receivepack", "false")  # as a server ends it that knows us as readers
    found = code_remote(places, settings, commit)
    assert (found.level, found.found.startswith("origin can be read, but takes no push: Expected `git push")) == ("fails", True)
    git("config", "remote.origin.uploadpack", "false")
    assert "git ls-remote" in code_remote(places, settings, commit).found
    assert git("ls-remote", "--upload-pack=git-upload-pack", str(bare)).split()[1::2] == ["refs/heads/main"]
    git("remote", "remove", "origin")


def test_a_store_in_which_somebody_else_made_folders_is_found() -> None:
    """The first object in such a folder would fail the push."""
    store = Path("/tmp") / f"store-{os.getpid()}"  # the tests' own folder is closed to others
    closed = store / "files/md5/4f"
    closed.mkdir(parents=True)
    for folder in (store, store / "files", store / "files/md5"):
        folder.chmod(0o777)
    closed.chmod(0o755 if not os.geteuid() else 0o500)
    try:
        found = as_nobody(lambda: told([_near(store)]))
        assert found.startswith(f"fails DVC remote: {store}: {closed} may not be written, or entered Correct the permissions of all below ")
    finally:
        shutil.rmtree(store)


def test_a_port_that_another_program_has_is_found(tmp_path: Path) -> None:
    """`make nightly-up` would fail after a restart of the machine, and no night begin."""
    places, settings = Places(tmp_path), load_nightly(ROOT)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = settings.model_copy(update={"port": port})
        assert told(schedule(places, taken)).splitlines()[1].startswith(f"look port: 127.0.0.1:{port} is taken by another program")
        places.home.mkdir()
        (places.home / "services.json").write_text("{}")
        assert [one.level for one in schedule(places, taken)] == ["fails", "fails"]
    assert "port" not in {one.what for one in schedule(places, taken)}


def test_a_server_that_has_ended_is_found(tmp_path: Path) -> None:
    """After a restart of the machine no night would begin, and nothing say so."""
    places, own = Places(tmp_path), {"pid": os.getpid(), "started": started_s(psutil.Process())}

    def found(noted: str) -> tuple[str, str]:
        places.home.mkdir(exist_ok=True)
        (places.home / "services.json").write_text(noted)
        [one] = schedule(places, load_nightly(ROOT))
        return one.level, one.found

    assert next(iter(schedule(places, load_nightly(ROOT)))).level == "look"
    assert found(json.dumps({"server": own, "worker": own}))[0] == "fine"
    assert found(json.dumps({"server": own, "worker": {**own, "started": 0.0}})) == (
        "fails",
        "no worker of `make nightly-up` runs, so no night begins",
    )
    for damaged in ({**own, "pid": -1}, "x", []):
        assert found(json.dumps({"server": own, "worker": damaged}))[1].startswith("no worker of")
    assert found(json.dumps({"server": own, "worker": {**own, "boot": "of another start of the machine"}}))[0] == "fails"
    assert found("{")[0] == "fails"


@pytest.mark.parametrize("lock", ["<<<<<<< HEAD\n", "", "- a\n", "stages: [a]\n", "stages: {a: [b]}\n", "stages: {a: {outs: 3}}\n"])
def test_every_damage_of_a_lock_is_a_finding(tmp_path: Path, lock: str) -> None:
    """The one tool that is to say what is wrong would end in a traceback over it."""
    (tmp_path / "dvc.lock").write_text(lock)

    assert [one.mend for one in leftovers(Places(tmp_path))] == [f"Run `git -C {tmp_path} checkout HEAD dvc.lock`."]


def test_the_disks_are_looked_at_although_the_nights_lock_is_damaged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would be hidden by another fault."""
    monkeypatch.chdir(project)
    damaged = Places(project).worktree / "dvc.lock"
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_text("stages: {a: {outs: [{size: large}]}}\n")

    found = examine(project)
    damaged.unlink()

    assert [one.level for one in found if one.what == "DVC lock"] == ["fails"]
    assert any(one.what == "disk" for one in found)


def test_a_file_system_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    """The one command that says what is wrong would itself say nothing, for ever."""
    os.mkfifo(tmp_path / "dead")

    def look() -> Iterator[Finding]:
        yield Finding("fine", "disk", "the first has room")
        (tmp_path / "dead").read_bytes()  # until somebody writes to it, and nobody does
        yield Finding("fine", "disk", "the second has room")

    assert [one.found for one in answers("disk", look, [], 0.5)] == ["the first has room", "no answer within 0.5 s"]
    with (tmp_path / "dead").open("w"):
        pass  # lets the thread end


def test_a_fault_of_a_check_is_no_finding() -> None:
    """A mistake in the code would look as if all were well."""

    def look() -> Iterator[Finding]:
        yield Finding("fine", "disk", "has room")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answers("disk", look, [], 60.0)


def test_the_verb_says_all_of_it_as_json_and_ends_with_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script could not ask it."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("http_proxy", "ftp://proxy:21")
    answer = run("doctor", "--json")

    assert answer.exit_code == 1
    findings = json.loads(answer.output)
    assert {"proxy", "DVC remote", "disk", "git"} <= {one["what"] for one in findings}
    assert all(one["mend"] for one in findings if one["level"] != "fine")
