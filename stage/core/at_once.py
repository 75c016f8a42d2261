"""Two computations at once, each with half of torch's threads: small networks gain nothing from a second thread (docs/decisions/0022)."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


class Each(Protocol):
    """How values are computed: one after the other, as `map` does, or two at once."""

    def __call__(self, function: Callable[[In], Out], values: Iterable[In], /) -> Iterator[Out]:
        """The results, in the order of the values."""
        ...


def has_spare_threads(device: str) -> bool:
    """Whether two computations at once are worth it: on a CPU with two threads or more; a GPU is full with one."""
    return device == "cpu" and torch.get_num_threads() > 1


@contextmanager
def two_at_once() -> Generator[Each]:
    """A `map` that computes two values at once, each with half of torch's threads.

    It takes all values before the first result; those that are not begun when the block ends, by an error or a stop, are dropped.
    """
    threads = torch.get_num_threads()
    half = max(1, threads // 2)
    torch.set_num_threads(half)
    # Torch counts its threads for each thread of Python; the default is the machine's number of cores.
    pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(half,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
