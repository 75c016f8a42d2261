"""A worker as a process: its threads, its signals, and the status it ends with."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from stage.deaths import IncompleteRunError, check_complete
from stage.device import device
from stage.jobs import load_job
from stage.params import Execution
from stage.progress import Interrupted, stop_on_signals
from stage.worker import drain

DONE, INCOMPLETE, REFUSED, STOPPED = 0, 3, 2, 130  # exit statuses; a worker that crashes has Python's 1 or its signal


def serve(job: Path, execution: Callable[[], Execution]) -> int:
    """Drain a job by the rules that `execution` reads; SIGTERM or SIGINT let it finish its batch first, a second one does not.

    Returns the exit status. DONE: nothing is left; INCOMPLETE: only what was set aside; STOPPED: on request; REFUSED: the job, its
    inputs, the parameters or this machine will not do, and what it says says why.
    """
    stop_on_signals()
    try:
        rules = execution()
        torch.set_num_threads(rules.threads)
        drain(job, device=device(rules.device), lease_s=rules.lease_s, max_deaths=rules.max_deaths)
        check_complete(load_job(job))
    except Interrupted:
        return STOPPED
    except IncompleteRunError as error:
        return _say(str(error), INCOMPLETE)
    except (ValueError, OSError) as error:
        return _say(str(error), REFUSED)
    return DONE


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    return status
