"""Kernel distance of two sets of defects in the features of a network (KID; Binkowski et al., ICLR 2018), and how much of it is chance.

m and n examples, F features, g parts. A part is all examples that share a physical defect or photograph: photographs of a group, and samples
made from one of them. Pairs within a part are left out of every mean, as the unbiased estimate leaves out an example with itself:
otherwise a copy of a real defect would count as an independent example.

torchmetrics' KernelInceptionDistance is not used: it knows no parts, and draws subsets of one size from both sets, which six real
defects are too few for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stage.core.arrays import Values

SPLITS = 100  # of the real defects into halves


class Distance(NamedTuple):
    """The distance and its standard error; NaN where there are too few parts."""

    value: float
    error: float


def kernel_distance(some: Values, others: Values, parts: Sequence[str], other_parts: Sequence[str]) -> Distance:
    """The squared maximum mean discrepancy of (m, F) and (n, F) features, unbiased, with the kernel (x y / F + 1)^3.

    The error is the jackknife's, which leaves out one part at a time. `parts` and `other_parts` name the part of each example.
    """
    names, numbers = np.unique([*parts, *other_parts], return_inverse=True)
    members = np.eye(len(names))[numbers]
    some_members, other_members = members[: len(some)], members[len(some) :]
    estimates = (
        _means(some, some, some_members, some_members)
        + _means(others, others, other_members, other_members)
        - 2 * _means(some, others, some_members, other_members)
    )
    whole, without = estimates[0], estimates[1:]
    count = len(names)
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()) if count else np.nan
    return Distance(float(whole), float(error))


def between_halves(features: Values, parts: Sequence[str], random: np.random.Generator) -> Distance:
    """The distance of two halves of the parts, averaged over random splits, and its standard deviation: the distance by chance alone."""
    names = np.unique(parts)
    if len(names) < 4:  # half of fewer has no two parts to compare
        return Distance(np.nan, np.nan)
    found: list[float] = []
    for _ in range(SPLITS):
        is_first = np.isin(parts, random.permutation(names)[: len(names) // 2])
        halves = [([*np.compress(side, parts)], features[side]) for side in (is_first, ~is_first)]
        (one_parts, one), (other_parts, other) = halves
        found.append(kernel_distance(one, other, one_parts, other_parts).value)
    return Distance(float(np.mean(found)), float(np.std(found)))


def _means(some: Values, others: Values, members: Values, other_members: Values) -> Values:
    """The mean of the kernel over pairs of different parts, (1 + g,): of all, and without each part; members are (., g) in {0, 1}."""
    if not (len(some) and len(others)):
        return np.full(1 + members.shape[1], np.nan)
    from sklearn.metrics.pairwise import polynomial_kernel  # here, because it takes a second to load

    sums = members.T @ polynomial_kernel(some, others, degree=3) @ other_members
    counts = np.outer(members.sum(0), other_members.sum(0))
    totals, pairs = (_without(np.where(np.eye(len(sums), dtype=bool), 0, values)) for values in (sums, counts))
    return np.divide(totals, pairs, out=np.full_like(totals, np.nan), where=pairs > 0.5)


def _without(values: Values) -> Values:
    """The sum of a matrix (g, g) whose diagonal is 0, and the sums without each row and column of one number."""
    whole = values.sum()
    return np.concatenate([[whole], whole - values.sum(0) - values.sum(1)])
