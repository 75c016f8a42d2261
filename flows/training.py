"""The process of one of several trainings at once: `python -m flows.training fabric 3 4711`, as flows/at_once.py starts it."""

import sys
from contextlib import ExitStack

from flows.segment import planned_trainings, samples_of, score
from stage.core.errors import Refusal
from stage.core.params import load_params
from stage.core.processes import end_with
from stage.core.progress import Interrupted, stop_on_signals
from stage.jobs.worker_process import DONE, REFUSED, STOPPED


def main(category: str, number: int, parent: int) -> None:
    """Make one of the category's trainings, by its number from 0, as a finished work in the spool, and exit with a worker's status.

    `parent`: the process that this one is not to outlive.
    """
    end_with(parent)
    stop_on_signals()
    params = load_params()
    training = planned_trainings(category, params)[number]
    try:
        with ExitStack() as users:
            score.fn(category, training, samples_of(category, training, params), params, users)
    except Interrupted:
        sys.exit(STOPPED)
    except Refusal as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    sys.exit(DONE)


if __name__ == "__main__":
    _category, _number, _parent = sys.argv[1:]
    main(_category, int(_number), int(_parent))
