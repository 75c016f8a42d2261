"""Who holds the nights' lock: a night, which has a record, or `stage retain`, which notes itself while it works."""

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime

from filelock import FileLock

from stage.core.durable import write_whole
from stage.nights.record import running_night
from stage.nights.settings import Places


@contextmanager
def held(places: Places, what: str) -> Generator[None]:
    """Hold the lock, and note for whom. Raises Timeout if it is taken."""
    with FileLock(places.lock, timeout=0):
        try:
            write_whole(f"{what}, {_process(os.getpid(), socket.gethostname(), datetime.now().astimezone())}", places.holder)
            yield
        finally:
            places.holder.unlink(missing_ok=True)


def holder_of(places: Places) -> str:
    """Who holds the lock, which is taken."""
    if running := running_night(places.nights):
        return f"night {running.id}, {_process(running.pid, running.host, running.began)}"
    with suppress(OSError):
        return places.holder.read_text(encoding="utf-8")
    return "another process"


def _process(pid: int, host: str, since: datetime) -> str:
    return f"process {pid} on {host}, since {since:%Y-%m-%d %H:%M}"
