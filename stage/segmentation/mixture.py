"""Samples of several methods as one set, by shares."""

from collections.abc import Sequence

import numpy as np

from stage.datasets.pairs import Pair


class Mixture(Sequence[Pair]):
    """Pairs of each part by its share, as many as the scarcest part allows, spread evenly over the part.

    Samples are ordered by type, so every type is thinned alike. Nothing is copied.
    """

    def __init__(self, parts: Sequence[Sequence[Pair]], shares: Sequence[float]) -> None:
        """`shares` as in `thinned`."""
        kept = thinned([len(part) for part in parts], shares)
        self.places = [(part, index) for part, indices in zip(parts, kept, strict=True) for index in indices]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Pair:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody takes slices
        part, place = self.places[index]
        return part[place]


def thinned(sizes: Sequence[int], shares: Sequence[float]) -> list[Sequence[int]]:
    """The indices of each part's pairs that are in a mixture, in rising order.

    `shares` are positive; only their ratios count. A part without pairs is left out; any other has one pair at least.
    """
    most = min((size / share for size, share in zip(sizes, shares, strict=True) if size), default=0.0)
    return [_spread(size, max(1, int(round(most * share, 6))) if size else 0) for size, share in zip(sizes, shares, strict=True)]


def _spread(size: int, count: int) -> Sequence[int]:
    """`count` different indices below `size`, evenly spaced."""
    return (np.arange(count) * size // max(count, 1)).tolist()
