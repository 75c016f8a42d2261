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
    """A `map` that computes two values at once, each with half of torch's threads. It reads all values before it gives the first result."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        # torch counts threads per thread; by default as many as the machine has cores.
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(max(1, threads // 2),)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
