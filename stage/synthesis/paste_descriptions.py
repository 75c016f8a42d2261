"""Describes the pastes that calibrate a verdict, two at once.

m pastes, n defects in all of them, F features.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Values
from stage.core.at_once import has_spare_threads, two_at_once
from stage.core.progress import track
from stage.datasets.pairs import Pair
from stage.synthesis.appearance import described, encoder
from stage.synthesis.judge import difference_sums
from stage.synthesis.null import Pasted, Paster

DRAWS = 2  # of pastes: twice as many as `synthesize.verdict.pastes` of each type
SUMS = 3 * 255 + 1  # possible sums of a pixel's absolute differences over the channels
Rows = NDArray[np.bool_]


class Described(NamedTuple):
    """Pastes: their facts (m rows), the features (n, F) of their defects, which paste each is of (n,), and (m, SUMS) shares of pixels by difference."""

    facts: pd.DataFrame
    features: Values
    owner: NDArray[np.intp]
    sums: Values

    def at(self, what: Literal["real", "nothing"]) -> Values:
        """The features of the real defects, or of nothing."""
        is_real = (self.facts.kind == "real").to_numpy()
        return self.features[(is_real == (what == "real"))[self.owner]]

    def part(self, rows: Rows) -> Self:
        """Some of the pastes; `rows` (m,)."""
        number = rows.cumsum() - 1
        kept = rows[self.owner]
        return type(self)(self.facts.loc[rows], self.features[kept], number[self.owner[kept]], self.sums[rows])

    def faintest(self, scores: Values) -> Values:
        """The score of every paste, (m,): its faintest defect's; `scores` (n,). 0 for an empty mask."""
        least = np.full(len(self.facts), np.inf)
        np.minimum.at(least, self.owner, scores)
        return np.where(np.isfinite(least), least, 0)


def described_draws(paster: Paster, least: int) -> Described:
    """The pastes of all draws; two at once where there are threads for it."""
    drawn = [one for draw in range(DRAWS) for one in paster.drawn(draw, least)]
    encoder()  # read once, before two threads would
    with two_at_once() if has_spare_threads("cpu") else nullcontext(map) as each:
        made = each(lambda one: describe(paster.pastes(one)), drawn)
        return _joined([*track(made, total=len(drawn), label=f"calibrate the verdict of {paster.planner.recipe.category}")])


def describe(pastes: Iterable[Pasted]) -> Described:
    """Describe pastes, one in memory at a time."""
    facts, features, owner, sums = list[tuple[str, ...]](), list[Values](), list[int](), list[Values]()
    for number, one in enumerate(pastes):
        found = described(one.image, one.background, one.mask)
        features.append(found)
        owner += [number] * len(found)
        facts.append((one.kind, one.defect, one.photograph, one.onto))
        counts = np.bincount(difference_sums(Pair(one.image, one.mask), one.background), minlength=SUMS)
        sums.append(counts / counts.sum())
    columns = ["kind", "defect", "photograph", "onto"]
    return Described(pd.DataFrame(facts, columns=columns), np.concatenate(features), np.array(owner), np.stack(sums))


def _joined(parts: Sequence[Described]) -> Described:
    """Descriptions as one, in their order."""
    before = np.cumsum([0, *(len(part.facts) for part in parts)])
    facts, features, owner, sums = zip(*parts, strict=True)
    numbered = [own + first for own, first in zip(owner, before, strict=False)]
    return Described(pd.concat(facts, ignore_index=True), np.concatenate(features), np.concatenate(numbered), np.concatenate(sums))
