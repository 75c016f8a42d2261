"""A worker as a process: its threads, its signals, and the status it ends with."""

import sys
from pathlib import Path

import torch

from stage.deaths import check_complete
from stage.device import device
from stage.jobs import load_job
from stage.params import Execution
from stage.progress import Interrupted, stop_on_signals
from stage.worker import drain

DONE, INCOMPLETE, REFUSED, STOPPED = 0, 3, 2, 130  # exit statuses; a worker that crashes has Python's 1 or its signal


def serve(job: Path, execution: Execution) -> int:
    """Drain a job and return the exit status; SIGTERM or SIGINT let it finish its batch first, a second one does not.

    DONE: nothing is left; INCOMPLETE: only what was set aside; STOPPED: on request; REFUSED: the job, its inputs or this machine
    will not do, and the last line says why.
    """
    stop_on_signals()
    torch.set_num_threads(execution.threads)
    try:
        drain(job, device=device(execution.device), lease_s=execution.lease_s, max_deaths=execution.max_deaths)
    except Interrupted:
        return STOPPED
    except (ValueError, OSError) as error:
        return _say(str(error), REFUSED)
    try:
        check_complete(load_job(job))
    except ValueError as error:
        return _say(str(error), INCOMPLETE)
    return DONE


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    return status
