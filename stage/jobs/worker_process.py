"""The process of a worker: the rules it works by, its signals and its exit status."""

import sys
from collections.abc import Callable
from pathlib import Path

from stage.core.device import device as device_of
from stage.core.device import limit_threads
from stage.core.durable import refusing_full_disks
from stage.core.errors import IncompleteRunError, Refusal
from stage.core.params import Execution
from stage.core.progress import Interrupted, stop_on_signals
from stage.core.redaction import for_terminal
from stage.jobs.failures import check_complete
from stage.jobs.job import load_job
from stage.jobs.worker import drain

DONE, INCOMPLETE, REFUSED, STOPPED = 0, 3, 2, 130  # exit statuses; a worker that crashes has Python's 1 or its signal


def run_worker(job: Path, execution: Callable[[], Execution], *, is_watched: bool) -> int:
    """Drain a job by the rules that `execution` reads; SIGTERM or SIGINT let it finish its batch first, a second one does not.

    Unless `is_watched` by another process, it ends itself if it gets stuck.

    Returns the exit status. DONE: nothing is left; INCOMPLETE: only batches that were set aside; STOPPED: on request; REFUSED: the job,
    its inputs, the parameters or this machine are unfit, for the printed reason.
    """

    def drained() -> None:
        rules = execution()
        limit_threads(rules.threads)
        stuck_s = None if is_watched else rules.stuck_s
        drain(job, device=device_of(rules.device), lease_s=rules.lease_s, max_failures=rules.max_failures, stuck_s=stuck_s)
        check_complete(load_job(job))

    return status_of(drained)


def status_of(work: Callable[[], None]) -> int:
    """Do the work of a process; returns its exit status, and prints the reason of a refusal. A signal lets it finish its step."""
    stop_on_signals()
    try:
        with refusing_full_disks():
            work()
    except Interrupted:
        return STOPPED
    except IncompleteRunError as error:
        return _say(str(error), INCOMPLETE)
    except Refusal as error:
        return _say(str(error), REFUSED)
    return DONE


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"{for_terminal(text)}\n")
    return status
