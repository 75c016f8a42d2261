"""Workers as processes that are halted, killed and raced: nothing is lost, nothing is made twice, the bytes are the same."""

import errno
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from stage.chaos.damage import flipped
from stage.chaos.miniature import Miniature, make_miniature
from stage.core.errors import ConfigError, CorruptFileError, IncompleteRunError, MachineError
from stage.core.params import load_params
from stage.jobs.claims import Owner, holder, take
from stage.jobs.failures import check_complete, record_failure, reset_failures, set_aside
from stage.jobs.heartbeat import beating
from stage.jobs.job import Job, load_job
from stage.jobs.patience import patiently
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.jobs.worker import Rules, Worker, drain
from stage.jobs.worker_process import DONE, INCOMPLETE, REFUSED, STOPPED, run_worker
from stage.release.publication import publish_jobs
from stage.synthesis.batch import write_batch
from stage.synthesis.recipe import recipe_of

ELSEWHERE = "another machine"
COUNT, BATCH = 12, 4  # samples per defect type, of which there are two
PROCESSES = get_context("fork")  # everything is imported here
PATIENCE_S = 120


class Begun(NamedTuple):
    """A worker's process, and what it may be asked."""

    process: BaseProcess

    def status(self) -> int | None:
        self.process.join(PATIENCE_S)
        return self.process.exitcode

    def wait_until_halted(self) -> None:
        halted = psutil.Process(self.process.pid)
        deadline = time.monotonic() + PATIENCE_S
        while halted.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        assert halted.status() == psutil.STATUS_STOPPED

    def send(self, number: signal.Signals) -> None:
        os.kill(int(self.process.pid or 0), number)


Begin = Callable[..., Begun]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    made = make_miniature(tmp_path_factory.mktemp("miniature"), load_params(Path(__file__).parents[1] / "params.yaml"))
    settings = made.params.synthesize.model_copy(update={"count": COUNT, "batch": BATCH})
    return made._replace(params=made.params.model_copy(update={"synthesize": settings}))


@pytest.fixture
def plan(miniature: Miniature, tmp_path: Path) -> Callable[[str], Path]:
    """A job over a spool of that name, which nothing was made in yet."""

    def planned(name: str) -> Path:
        catalog, base, checkpoint, params = miniature
        spool = BatchStore(tmp_path / name)
        return make_job(recipe_of("stage", "part", params, catalog=catalog, base=base, checkpoint=checkpoint), spool)

    return planned


@pytest.fixture
def job(plan: Callable[[str], Path]) -> Job:
    return load_job(plan("spool"))


@pytest.fixture
def begin(miniature: Miniature) -> Iterator[Begin]:
    """Starts workers, with a fault where one is named; ends what is left of them."""
    begun: list[BaseProcess] = []

    def start(folder: Path, fault: str = "") -> Begun:
        process = PROCESSES.Process(target=_serve, args=(folder, miniature, fault))
        process.start()
        begun.append(process)
        return Begun(process)

    yield start
    for process in begun:
        process.kill()
        process.join()


def _serve(folder: Path, miniature: Miniature, fault: str) -> None:
    os.environ["STAGE_FAULT"] = fault
    raise SystemExit(run_worker(folder, lambda: miniature.params.execution, is_watched=False))


def halt(point: str) -> str:
    return f"{point}:0:{int(signal.SIGSTOP)}"


def made(job: Job) -> set[int]:
    return {batch.number for batch in job.batches() if job.store.finished(batch.key)}


def finish(job: Job, *, lease_s: float = 60, max_failures: int = 3) -> None:
    drain(job.folder, device="cpu", lease_s=lease_s, max_failures=max_failures)


def digests(folder: Path) -> dict[str, str]:
    """Of every published file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finish_but(job: Job, number: int) -> None:
    """Make every batch but one, and leave its claim and its failures as they are."""
    worker = Worker(job, "cpu", Rules(lease_s=60, max_failures=3))
    assert len(list(worker.settle([batch for batch in job.batches() if batch.number != number]))) == len(ALL) - 1


ALL = set(range(2 * COUNT // BATCH))


def test_the_shards_are_the_same_bytes_for_any_number_of_workers(plan: Callable[[str], Path], begin: Begin, tmp_path: Path) -> None:
    """A data set would depend on the machines that were free that night."""
    published: list[dict[str, str]] = []
    for count in (1, 2, 3):
        folder = plan(f"spool-{count}")
        workers = [begin(folder) for _ in range(count)]
        assert [worker.status() for worker in workers] == [DONE] * count
        publish_jobs([folder], tmp_path / f"published-{count}", lease_s=60.0)
        published.append(digests(tmp_path / f"published-{count}"))

    assert [name for name in published[0] if name.endswith(".parquet")]
    assert published[0] == published[1] == published[2]


def test_two_workers_share_the_work(job: Job, begin: Begin) -> None:
    """A second GPU would make everything a second time, or nothing."""
    first = begin(job.folder, halt("after_write"))
    first.wait_until_halted()
    second = begin(job.folder)
    while made(job) != ALL - {0}:
        time.sleep(0.01)
    first.send(signal.SIGCONT)

    assert (first.status(), second.status()) == (DONE, DONE)
    makers = [job.store.maker(batch.key)["pid"] for batch in job.batches()]
    assert makers == [str(first.process.pid)] + [str(second.process.pid)] * (len(ALL) - 1)


@pytest.mark.parametrize("point", ["before_write", "after_write", "after_fsync", "after_rename"])
def test_a_killed_worker_loses_at_most_its_batch(job: Job, begin: Begin, point: str) -> None:
    """Hours of work would be gone, or half a file would pass for a whole one."""
    assert begin(job.folder, f"{point}:2").status() == -signal.SIGKILL

    assert made(job) == {0, 1}
    finish(job)
    assert made(job) == ALL
    assert not job.set_aside()
    assert not list(job.claim(0).parent.glob("*.json"))


def test_what_kills_its_workers_is_set_aside_and_the_rest_is_made(job: Job, begin: Begin) -> None:
    """One bad batch would hold up a thousand good ones, or be tried for ever."""
    assert begin(job.folder, "before_write").status() == -signal.SIGKILL
    finish_but(job, 0)
    for _ in range(2):
        assert begin(job.folder, "before_write").status() == -signal.SIGKILL
    assert begin(job.folder).status() == INCOMPLETE

    assert made(job) == ALL - {0}
    assert set(job.set_aside()) == {0}
    with pytest.raises(
        IncompleteRunError, match=r"found 1 missing .*: batch 0, stage/part/crack/000000/0 to 000003 \(3 tries failed: .* died\)"
    ):
        check_complete(job)


def test_what_killed_a_worker_comes_last(job: Job, begin: Begin) -> None:
    """A bad batch would kill every worker that is started, before any of them has made a good one."""
    assert begin(job.folder, "before_write").status() == -signal.SIGKILL
    worker = Worker(job, "cpu", Rules(lease_s=60, max_failures=3))

    assert [batch.number for batch in worker.settle(job.batches())] == [*sorted(ALL - {0}), 0]


def test_a_worker_that_can_make_nothing_gives_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sick machine would set aside what all others could have made."""
    monkeypatch.setattr("stage.jobs.worker.IN_A_ROW", 4)
    worker = Worker(job, "cpu", Rules(lease_s=60, max_failures=3))
    worker.source = worker.source._replace(backgrounds={})

    with pytest.raises(MachineError, match=r"Expected to make batch 3 of .*, found that 4 in a row failed, this one by KeyError"):
        list(worker.settle(job.batches()))
    assert not job.set_aside()


def test_what_cannot_be_rendered_is_set_aside_and_the_rest_is_made(job: Job) -> None:
    """A photograph that cannot be decoded would end the night's run."""
    worker = Worker(job, "cpu", Rules(lease_s=60, max_failures=2))
    bad = job.rows(0)[0].background_sha256
    whole = worker.source.backgrounds
    worker.source = worker.source._replace(backgrounds={digest: whole[digest] for digest in whole if digest != bad})
    touched = {batch.number for batch in job.batches() if any(row.background_sha256 == bad for row in job.rows(batch.number))}
    settled = list(worker.settle(job.batches()))

    assert {batch.number for batch in settled} == ALL
    assert set(job.set_aside()) == touched
    assert made(job) == ALL - touched
    assert job.set_aside()[0] == f"2 tries failed: KeyError: '{bad}'"


def test_a_new_run_tries_again_what_was_set_aside(job: Job, begin: Begin) -> None:
    """After a repair the batch would stay missing; or three runs killed by hand would count as its fault."""
    for _ in range(2):
        begin(job.folder, "before_write").status()
    reset_failures(job, lease_s=60)
    begin(job.folder, "before_write").status()
    finish(job, max_failures=2)
    assert made(job) == ALL

    job.store.drop(job.batches()[0].key)
    begin(job.folder, "before_write").status()
    finish(job, max_failures=1)
    assert set(job.set_aside()) == {0}
    reset_failures(job, lease_s=60)
    finish(job, max_failures=1)

    check_complete(job)


def test_a_survivor_is_fenced_off(job: Job, begin: Begin) -> None:
    """A machine that slept would write over what its successor has made."""
    survivor = begin(job.folder, halt("after_fsync"))
    survivor.wait_until_halted()
    claim = job.claim(0)
    before = holder(claim)
    assert before is not None
    claim.write_text(json.dumps(before._replace(host=ELSEWHERE)._asdict()))
    os.utime(claim, (0, 0))
    finish(job)
    inode = job.store.file(job.batches()[0].key).stat().st_ino
    survivor.send(signal.SIGCONT)

    assert survivor.status() == DONE
    assert job.store.maker(job.batches()[0].key)["pid"] == str(os.getpid())
    assert job.store.file(job.batches()[0].key).stat().st_ino == inode
    assert made(job) == ALL


def test_a_long_batch_shows_that_its_worker_lives(job: Job) -> None:
    """A batch that takes longer than a lease would be taken away by another machine, again and again."""
    claim, _ = take(job.claim(0), Owner.here(), lease_s=60)
    assert claim is not None
    os.utime(claim.path, (0, 0))
    deadline = time.monotonic() + PATIENCE_S
    with beating(claim, lease_s=0.2):
        while claim.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > 0

    assert not claim.path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_batch_be_finished_and_no_other_be_begun(job: Job, begin: Begin, number: signal.Signals) -> None:
    """A scheduler that takes a machine back would cost a batch, or wait in vain."""
    worker = begin(job.folder, halt("after_write"))
    worker.wait_until_halted()
    worker.send(number)
    worker.send(signal.SIGCONT)

    assert worker.status() == STOPPED
    assert made(job) == {0}
    assert not job.claim(0).exists()


def test_a_damaged_batch_is_made_again(job: Job) -> None:
    """A flipped bit would be published."""
    finish(job)
    file = job.store.file(job.batches()[3].key)
    whole = file.read_bytes()
    file.write_bytes(flipped(whole, 8 * len(whole) - 8))
    assert made(job) == ALL - {3}
    assert [batch.number for batch in job.delete_damaged()] == [3]
    finish(job)

    assert made(job) == ALL
    assert file.read_bytes() == whole


def test_a_full_disk_is_nobodys_fault(job: Job) -> None:
    """Every batch would be rendered three times and set aside, because of a disk."""
    key = job.batches()[1].key
    folder = job.store.file(key).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to("nowhere")  # no file can be made there: the next best thing to a disk that takes nothing

    with pytest.raises(MachineError, match=r"Expected to make batch 1 of .* and keep it in"):
        finish(job)
    assert not job.set_aside()


def fails(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[int]:
    """Let the first tries to begin a batch fail with that error number; returns what grows with every try."""
    begin, tried = take, list[int]()

    def flaky(*given: Any, **more: Any) -> Any:
        tried.append(1)
        if len(tried) <= times:
            raise OSError(number, os.strerror(number))
        return begin(*given, **more)

    monkeypatch.setattr("stage.jobs.worker.take", flaky)
    return tried


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENOENT])
def test_a_disk_that_is_away_for_a_moment_is_waited_for(job: Job, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A network's disk that is remounted would end every worker of the night."""
    monkeypatch.setattr("stage.jobs.patience.WAIT_S", 0.01)
    tried = fails(monkeypatch, number, 3)
    finish(job)

    assert made(job) == ALL
    assert len(tried) == 3 + len(ALL)
    assert not [*(job.folder / "failures").glob("*")]


@pytest.mark.parametrize("name", ["load_job", "read"])
def test_a_disk_that_is_away_before_the_first_batch_is_waited_for(job: Job, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A worker that starts at a bad moment would end in a traceback; finished batches would count as damaged and be deleted."""
    finish(job)
    monkeypatch.setattr("stage.jobs.patience.WAIT_S", 0.01)
    place, true = ("stage.jobs.worker.load_job", load_job) if name == "load_job" else ("stage.jobs.store.BatchStore.read", BatchStore.read)
    failed: list[int] = []

    def flaky(*given: Any) -> Any:
        failed.append(1)
        if len(failed) < 3:
            raise OSError(errno.EIO, "Input/output error")
        return true(*given)

    monkeypatch.setattr(place, flaky)
    damaged = patiently(job.delete_damaged, expected="Expected to read", lease_s=60)
    finish(job)

    assert (damaged, made(job)) == ([], ALL)
    assert len(failed) > 2


def test_a_disk_that_stays_away_is_a_refusal_and_no_damage(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every finished batch would be deleted because a disk did not answer."""
    finish(job)
    folder = job.folder.absolute()

    def broken(_path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(MachineError, match=r"Expected to read, found .*Input/output error"):
        patiently(job.delete_damaged, expected="Expected to read", lease_s=0.01)
    monkeypatch.undo()

    assert made(load_job(folder)) == ALL


def test_a_disk_that_fails_in_the_middle_of_a_batch_is_waited_for(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch would count as failed, or the worker end, though nothing is wrong with either."""
    monkeypatch.setattr("stage.jobs.patience.WAIT_S", 0.01)
    write, failed = write_batch, list[int]()

    def flaky(*given: Any, **more: Any) -> None:
        failed.append(1)
        if len(failed) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        write(*given, **more)

    monkeypatch.setattr("stage.jobs.worker.write_batch", flaky)
    finish(job)

    assert made(job) == ALL
    assert not [*(job.folder / "failures").glob("*")]


@pytest.mark.parametrize(("number", "lease_s"), [(errno.ESTALE, 0.2), (errno.ENOSPC, 60), (errno.EROFS, 60), (errno.EACCES, 60)])
def test_a_disk_that_does_not_come_back_ends_the_worker(job: Job, monkeypatch: pytest.MonkeyPatch, number: int, lease_s: float) -> None:
    """A worker would wait for ever for a disk that is full, or gone."""
    fails(monkeypatch, number, 10**6)

    with pytest.raises(MachineError, match=rf"found \[Errno {number}\]"):
        finish(job, lease_s=lease_s)
    assert not job.set_aside()


def test_a_job_that_is_removed_ends_its_worker_and_does_not_come_back(job: Job) -> None:
    """The spool would fill with folders of failures of jobs that are gone, or the worker wait for a folder for ever."""
    worker, batches = Worker(job, "cpu", Rules(lease_s=60, max_failures=1)), job.batches()
    shutil.rmtree(job.folder)
    record_failure(job, 0, "too late")
    assert not set_aside(job, 0, 0)

    with pytest.raises(CorruptFileError, match=r"Expected a job with its job\.json in .*, found none"):
        list(worker.settle(batches))
    assert not job.folder.exists()


def test_a_worker_that_meets_a_new_run_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `dvc repro` would end the workers of the first as if the disk were broken."""
    monkeypatch.setattr("stage.jobs.worker.IN_A_ROW", 10**6)
    worker = Worker(job, "cpu", Rules(lease_s=60, max_failures=2))
    whole = worker.source
    worker.source = whole._replace(backgrounds={})
    replace = Path.replace

    def replace_after_a_reset(path: Path, target: Path) -> Path:
        if target.parent.name in {"aside", "0"}:  # just where a failure is to be noted
            reset_failures(job, lease_s=60)
            worker.source = whole
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_a_reset)

    assert {batch.number for batch in worker.settle(job.batches())} == ALL
    assert made(job) | {*job.set_aside()} == ALL


def test_changed_inputs_are_refused(job: Job, miniature: Miniature, begin: Begin) -> None:
    """Half of a data set would be another checkpoint's."""
    weights = miniature.checkpoint / "adapters.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(flipped(before, 8 * len(before) - 8))
    try:
        with pytest.raises(ConfigError, match=r"found 1 changed: checkpoint: "):
            finish(job)
        assert begin(job.folder).status() == REFUSED
    finally:
        weights.write_bytes(before)
