"""Runs a function in its own process, which a night can end; a thread that waits for a network folder cannot be ended."""

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
    """The function's result in another process; raises its Refusal. `run` runs a command, and may end it.

    The process prints what the function logs.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CALL).write_bytes(pickle.dumps((function, arguments, named)))
        run([sys.executable, "-u", "-m", __name__, folder])
        answer = pickle.loads((Path(folder) / ANSWER).read_bytes())
    if isinstance(answer, Refusal):
        raise answer
    return cast(R, answer)


def main(folder: Path) -> None:
    """Call the function that is pickled in a folder, and write its result there."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    log = logging.getLogger("stage")
    log.setLevel(logging.INFO)
    function, arguments, named = pickle.loads((folder / CALL).read_bytes())
    log.info("%s begins", function.__name__)  # if it is ended as stuck, the log shows that its modules were loaded
    reached(f"inside {function.__name__}")
    try:
        answer = function(*arguments, **named)
    except Refusal as error:
        answer = error
    (folder / ANSWER).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
