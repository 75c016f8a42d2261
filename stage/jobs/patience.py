"""How long a worker waits for a disk that does not answer: for a lease, unless the error is one that does not pass by itself."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from stage.core.errors import MachineError
from stage.jobs.heartbeat import BEATS

WAIT_S = 1.0  # between two tries to reach a disk that is away
# Errors of a disk or machine that do not pass by themselves. Others, such as ESTALE or EIO of a network disk, may pass.
FULL_OR_FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
WRONG_PATH = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
NOT_SUPPORTED = {errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.ENOTSUP}
LASTING = FULL_OR_FORBIDDEN | WRONG_PATH | NOT_SUPPORTED
Value = TypeVar("Value")
MEND = "Finished batches are kept: make room, or mend what is broken, and run the same command."


class Patience:
    """The patience of one worker. `lease_s`: seconds without a heartbeat after which others count it as dead; it waits no longer."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._away_since: float | None = None  # seconds of the monotonic clock; None while the disk answers

    def wait(self, error: OSError, expected: str) -> None:
        """Wait a moment. Raises a MachineError that begins with `expected` if the error does not pass, or has lasted for a lease."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if error.errno in LASTING or now - self._away_since >= self._lease_s:
            raise MachineError(f"{expected}, found {error}. {MEND}") from None
        time.sleep(min(WAIT_S, self._lease_s / BEATS))

    def forget(self) -> None:
        """The disk has answered: the next error is a new one."""
        self._away_since = None


def patiently(act: Callable[[], Value], *, expected: str, lease_s: float) -> Value:
    """What `act` returns, tried again while a disk is away for less than a lease. Raises a MachineError that begins with `expected`."""
    patience = Patience(lease_s)
    while True:
        try:
            return act()
        except OSError as error:
            patience.wait(error, expected)
