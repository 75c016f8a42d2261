"""A process that runs one of several trainings at once: `python -m flows.training fabric 3 4711`, started by flows/at_once.py."""

import sys
from contextlib import ExitStack

from flows.scoring import planned_trainings, score, training_samples
from stage.core.params import load_params
from stage.core.processes import end_with
from stage.jobs.worker_process import status_of


def train(category: str, number: int) -> None:
    """Run one of the category's trainings, by its number from 0, to a finished work in the spool."""
    params = load_params()
    training = planned_trainings(category, params)[number]
    with ExitStack() as users:
        score(category, training, training_samples(category, training, params), params, users)


if __name__ == "__main__":
    _category, _number, _parent = sys.argv[1:]
    end_with(int(_parent))
    sys.exit(status_of(lambda: train(_category, int(_number))))
