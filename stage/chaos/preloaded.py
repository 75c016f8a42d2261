"""What the processes of `stage chaos` are forked from: the modules that they use, and the digests of the code that they run.

Every one of them asks for these digests, which would take it half of its time.
"""

from importlib import import_module

from stage.chaos import trials
from stage.core.code_digest import code_digest
from stage.jobs.inputs import ORIGIN, PLANNING
from stage.synthesis.method import METHODS

import_module(METHODS["stage"].module)  # else it is imported when it is used
code_digest(*METHODS["stage"].rendering, ORIGIN)  # remembers its answers
code_digest(*METHODS["stage"].planning, PLANNING)

__all__ = ["trials"]
