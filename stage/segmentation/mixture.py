"""Samples of several methods as one set, by shares."""

from collections.abc import Sequence

import numpy as np

from stage.datasets.pairs import Pair


class Mixture(Sequence[Pair]):
    """As many pairs of each part as its share says: the most of which no part runs short, spread evenly over the part.

    Samples are in the order of their types, so that every type is thinned alike. Nothing is copied.
    """

    def __init__(self, parts: Sequence[Sequence[Pair]], shares: Sequence[float]) -> None:
        """`shares` are positive; only their ratios count. A part without pairs is left out; any other has one pair at least."""
        present = [(part, share) for part, share in zip(parts, shares, strict=True) if len(part)]
        most = min((len(part) / share for part, share in present), default=0.0)
        self.places = [(part, index) for part, share in present for index in _spread(len(part), max(1, int(round(most * share, 6))))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Pair:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody takes slices
        part, place = self.places[index]
        return part[place]


def _spread(size: int, count: int) -> Sequence[int]:
    """`count` different indices below `size`, evenly spaced."""
    return (np.arange(count) * size // max(count, 1)).tolist()
