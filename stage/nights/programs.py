"""Runs git and DVC as programs: limited in time, ended with their parent, without prompts, and without secrets in their output."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from stage.core.errors import MachineError, Refusal
from stage.core.redaction import without_secrets

ASK_S = 600.0  # after which a call of git that should take seconds has hung
GRACE_S = 20.0  # for a flow to reach a consistent state; it needs ten at most
LONGER = "Raise execution.stuck_s in params.yaml if a step may take longer."
LAST_LINES = 12  # last lines of a failed program that a message shows
DVC = (sys.executable, "-m", "dvc")
# Replaces itself by the given program, which the kernel kills when the process with the given id is gone (prctl PR_SET_PDEATHSIG, Linux).
# Done in the child and not between fork and exec, where a process with threads, such as Prefect's, may hang.
ENDS_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
Say = Callable[[str], None]


class ProgramError(Refusal):
    """A program that was needed has failed; `output` is what it printed."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def program_variables(folder: Path) -> dict[str, str]:
    """The environment of programs that work in a folder: its own code comes first, and nothing asks for a password."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_DIR", "GIT_INDEX", "GIT_WORK_TREE", "PREFECT__"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    code = os.pathsep.join([str(folder), *filter(None, [kept.get("PYTHONPATH")])])
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": kept.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"), "LC_ALL": "C.UTF-8"}
    # Secrets are looked for in each line, so no program may fold an address: rich does, at the width of an assumed terminal.
    return {**kept, **quiet, "DVC_NO_ANALYTICS": "1", "COLUMNS": "8192", "PATH": path, "PYTHONPATH": code}


def output_of(command: Sequence[str], folder: Path, *, stdin: str = "", **variables: str) -> str:
    """What a short program prints. Raises ProgramError if it fails or hangs."""
    try:
        done = subprocess.run(
            command, cwd=folder, env={**program_variables(folder), **variables}, input=stdin, capture_output=True, text=True, check=False, timeout=ASK_S
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"Expected {_name(command)} to answer within {ASK_S:.0f} s, found it still running. Look at the network."
        ) from None
    except FileNotFoundError:
        raise MachineError(f"Expected the program {command[0]}, found none. Install it.") from None
    if done.returncode:
        raise _failed(_name(command), folder, done.returncode, done.stdout + done.stderr)
    return done.stdout


def work(
    command: Sequence[str],
    folder: Path,
    log: Path,
    *,
    deadline: float,
    say: Say,
    silence_s: float = math.inf,
    name: str = "",
    mend: str = LONGER,
    **variables: str,
) -> str:
    """Run a long program, with more `variables` in its environment; its lines go to `log` and to `say` as they come, and are returned.

    The program and all that it started are ended at `deadline`, a time of `time.monotonic()`, or once it has printed nothing for
    `silence_s`: it is stuck then, if it prints a line whenever it gets on; `mend` says what to do. Messages call it `name`, or by its
    command. Raises ProgramError if it fails, MachineError if it is ended.
    """
    lines = Lines()
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", ENDS_WITH_PARENT, str(os.getpid()), *command],
            cwd=folder, env={**program_variables(folder), **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        reader = threading.Thread(target=_relay, args=(process, lines, file, say), daemon=True)
        reader.start()
        try:
            status = _status(process, lines, deadline, silence_s)
            if status is None:
                late = f"to end within the night's limit, found it still running. {log} has what it said."
                stuck = (
                    f"to get on within {silence_s:.0f} s, found that it printed nothing, so that it was ended as stuck. Its last line: "
                    f"{(lines or ['none'])[-1]} {mend}"
                )
                raise MachineError(f"Expected {name or _name(command)} {late if time.monotonic() >= deadline else stuck}")
        finally:
            end_group(process)
            reader.join(GRACE_S)
    if status:
        raise _failed(name or _name(command), folder, status, "\n".join(lines))
    return "\n".join(lines)


class Lines(list[str]):
    """What a program has printed, and the time of `time.monotonic()` at which it last did, or began."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()


def _status(process: "subprocess.Popen[str]", lines: Lines, deadline: float, silence_s: float) -> int | None:
    """The exit status of a process; None if it still runs at the deadline, or has been silent for too long."""
    while (left := min(deadline, lines.last + silence_s) - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, threading.TIMEOUT_MAX))
    return None


def _relay(process: "subprocess.Popen[str]", lines: Lines, file: TextIO, say: Say) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            told = without_secrets(line.rstrip("\n"))
            lines.append(told)
            lines.last = time.monotonic()
            with suppress(OSError, ValueError):  # a full disk or a closed log must not stall the program
                file.write(f"{told}\n")
                file.flush()
            with suppress(OSError, ValueError):  # neither must a reader of the night's lines
                say(told)


def end_group(process: "subprocess.Popen[str]") -> None:
    """Ask a program and all that it started to end, and kill what does not."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # the kernel may keep it for as long as a network folder does not answer
        process.wait(GRACE_S)


def _failed(name: str, folder: Path, status: int, output: str) -> ProgramError:
    told = without_secrets("\n".join(deque(filter(str.strip, output.splitlines()), LAST_LINES)))
    return ProgramError(f"Expected {name} to work in {folder}, found exit status {status}:\n{told}", without_secrets(output))


def _name(command: Sequence[str]) -> str:
    words = command[2:] if tuple(command[:3]) == DVC else command
    return f"`{without_secrets(' '.join(words))}`"
