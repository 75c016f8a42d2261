"""The state that the processes of `stage chaos` are forked from: the modules that they use, and the digests of their code.

Each process needs these digests, and would spend half of its time on them.
"""

from importlib import import_module

from stage.chaos import trials
from stage.core.code_digest import code_digest
from stage.jobs.inputs import ORIGIN, PLANNING
from stage.synthesis.method import METHODS

import_module(METHODS["stage"].module)  # otherwise imported on first use
code_digest(*METHODS["stage"].rendering, ORIGIN)  # caches its results
code_digest(*METHODS["stage"].planning, PLANNING)

__all__ = ["trials"]
