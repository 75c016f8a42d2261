"""Runs a function in a process of its own, which a night can give up: no thread can be ended that waits for a network folder."""

import logging
import pickle
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from stage.core.errors import Refusal
from stage.core.processes import reached

CALL, ANSWER = "call.pickle", "answer.pickle"
P = ParamSpec("P")
R = TypeVar("R")


def in_own_process(run: Callable[[Sequence[str]], object], function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What a function returns in another process, or its Refusal. `run` runs a command, and may end it.

    What the function logs is what the process prints.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CALL).write_bytes(pickle.dumps((function, arguments, named)))
        run([sys.executable, "-u", "-m", __name__, folder])
        answer = pickle.loads((Path(folder) / ANSWER).read_bytes())
    if isinstance(answer, Refusal):
        raise answer
    return cast(R, answer)


def main(folder: Path) -> None:
    """Call the function that is in a folder, and put its answer there."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    log = logging.getLogger("stage")
    log.setLevel(logging.INFO)
    function, arguments, named = pickle.loads((folder / CALL).read_bytes())
    log.info("%s begins", function.__name__)  # so that who finds it ended as stuck knows that its modules were loaded
    reached(f"inside {function.__name__}")
    try:
        answer = function(*arguments, **named)
    except Refusal as error:
        answer = error
    (folder / ANSWER).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
