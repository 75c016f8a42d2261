"""Calibrates the verdict of a category on its training part: real defects and nothing, pasted by the same code under the same masks.

m pastes, n defects in all of them, F features, N training defects. No test image is read. `paste_descriptions` describes the pastes.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Values
from stage.datasets.table import training_part
from stage.synthesis.copies import PatchArray, nearest, patch
from stage.synthesis.judge import PLACES, Discriminant, Judge, standardised
from stage.synthesis.null import KINDS, MATCHED, Paster, nothing_of
from stage.synthesis.paste_descriptions import SUMS, Described, described_draws
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import TypeRecord
from stage.synthesis.source import Source

Folds = NDArray[np.intp]

FOLDS = 4
STRENGTH = 1.0  # of the ridge, for standardised features
LEAST_DEVIATION = 1e-3
COPY_SHARE = 0.05  # of the training defects lie this near to one of another part; a nearer sample is a near-copy
TYPICAL = 0.5  # of nothing's pixels differ from the background by no more than a pixel that looks normal


def calibrate(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Judge:
    """The measure of a category, the same for the same training part, seed and `synthesize.verdict`.

    All pastes fit it. Its thresholds are set by nothing as the recipe's method would paste it, each paste scored by a discriminant that
    was fitted without its background: a discriminant scores the pastes that it was fitted to too favourably.
    """
    asked, group, kinds = recipe.synthesize.verdict, _groups(catalog), ("real", *nothing_of(recipe))
    made = described_draws(Paster(recipe, catalog, source), asked.pastes)
    final = fit_discriminant(made.at("real"), made.at("nothing"))
    fold = _by_background(made.facts)
    facts = made.facts.assign(fold=fold, score=_held_out(made, fold), unseen=_held_out(made, _by_part(made.facts, group)))
    photographs = sorted(source.photographs)
    patches = np.stack([patch(*source.photographs[sha256]) for sha256 in photographs])
    copy_distance = _copy_distance(patches, [group[sha256] for sha256 in photographs])
    records = (
        _record(rows, made.sums[rows.index], asked.normal_pass)._replace(copy_distance=copy_distance)
        for _, rows in facts.loc[facts.kind.isin(kinds)].groupby("defect", sort=True)
    )
    return Judge(final, tuple(records), patches, tuple(photographs))


def fit_discriminant(real: Values, nothing: Values) -> Discriminant:
    """The ridge regression of 1 for real defects (a, F) and 0 for nothing (b, F), both kinds of the same total weight."""
    mean, deviation = nothing.mean(0), nothing.std(0) + LEAST_DEVIATION
    x = standardised(np.concatenate([real, nothing]), mean, deviation)
    y = np.repeat([1.0, 0.0], [len(real), len(nothing)])
    weights = np.repeat([0.5 / len(real), 0.5 / len(nothing)], [len(real), len(nothing)])
    centre, middle = weights @ x, weights @ y
    scaled = np.sqrt(weights)[:, None] * (x - centre)
    slopes = _ridge(scaled, np.sqrt(weights) * (y - middle))
    return Discriminant(mean, deviation, slopes, float(middle - centre @ slopes))


def _ridge(x: Values, y: Values) -> Values:
    """The slopes (2 F,) that minimise |x slopes - y|^2 + STRENGTH |slopes|^2, for x (n, 2 F), in the smaller of the two spaces."""
    rows, columns = x.shape
    if rows <= columns:
        return x.T @ np.linalg.solve(x @ x.T + STRENGTH * np.eye(rows), y)
    return np.asarray(np.linalg.solve(x.T @ x + STRENGTH * np.eye(columns), x.T @ y), np.float64)


def _by_background(facts: pd.DataFrame) -> Folds:
    """The fold (m,) of every paste, which has all of its background; where there are fewer backgrounds than folds, those of an identity."""
    onto = pd.factorize(facts.onto, sort=True)[0]
    return (onto if onto.max(initial=0) >= FOLDS - 1 else np.arange(len(facts)) // len(KINDS)) % FOLDS


def _by_part(facts: pd.DataFrame, group: dict[str, str]) -> Folds:
    """The fold (m,) of every paste: of real defects all photographs of a part, of nothing all of a background."""
    is_real = (facts.kind == "real").to_numpy()
    parts = {one: number for number, one in enumerate(sorted({group[sha256] for sha256 in facts.photograph[is_real]}))}
    told = zip(facts.photograph, is_real, pd.factorize(facts.onto, sort=True)[0], strict=True)
    return np.array([parts[group[sha256]] if real else number for sha256, real, number in told]) % FOLDS


def _held_out(made: Described, fold: Folds) -> Values:
    """The score (m,) of every paste by a discriminant that was fitted without its fold."""
    scores = np.zeros(len(made.owner))
    for number in range(FOLDS):
        others, own = made.part(fold != number), (fold == number)[made.owner]
        if {"real"} < {*others.facts.kind} and own.any():  # not where all defects are of one part, or all backgrounds one photograph
            scores[own] = fit_discriminant(others.at("real"), others.at("nothing")).scores(made.features[own])
    return made.faintest(scores)


def _real_pass(rows: pd.DataFrame, scores: pd.Series, normal_pass: float) -> float:
    """The share of one type's real pastes that reach the threshold that nothing sets."""
    is_real = rows.kind == "real"
    return round(float((scores[is_real] >= threshold_of(scores[~is_real], normal_pass)).mean()), 4)


def _record(rows: pd.DataFrame, sums: Values, normal_pass: float) -> TypeRecord:
    """The findings of one type; `rows` and `sums` are those of its pastes."""
    is_real = (rows.kind == "real").to_numpy()
    nothing, real = rows.loc[~is_real], rows.loc[is_real]
    by_fold = {fold: threshold_of(others, normal_pass) for fold in range(FOLDS) if len(others := nothing.score[nothing.fold != fold])}
    passed = [score >= by_fold[fold] for fold, score in zip(nothing.fold, nothing.score, strict=True) if fold in by_fold]
    below = sums.cumsum(1)
    level = int((below[rows.kind.isin(MATCHED).to_numpy()].mean(0) < TYPICAL).sum())
    return TypeRecord(
        defect=str(rows.defect.iloc[0]),
        photographs=int(real.photograph.nunique()),
        pastes=len(real),
        normal_pastes=len(nothing),
        threshold=threshold_of(nothing.score, normal_pass),
        normal_pass=round(float(np.mean(passed)), 4) if passed else 0.0,
        real_pass=_real_pass(rows, rows.score, normal_pass),
        unseen_pass=_real_pass(rows, rows.unseen, normal_pass),
        normal_difference=level / 3,
        real_looks_normal=round(float(below[is_real, min(level, SUMS - 1)].mean()), 4),
        copy_distance=0.0,
    )


def threshold_of(scores: pd.Series, share: float) -> float:
    """The score that at most this share of further scores reach, on average over calibrations: just above a rank of those given."""
    ranked = np.sort(scores.to_numpy())
    rank = min(len(ranked), int(np.ceil((1 - share) * (len(ranked) + 1))))
    return float(np.round(ranked[rank - 1], PLACES) + 10.0**-PLACES)


def _copy_distance(patches: PatchArray, groups: list[str]) -> float:
    """The distance below which a twentieth of the training defects have their nearest one of another part; 0 if there is no other part."""
    others = [[k for k, other in enumerate(groups) if other != group] for group in groups]
    distances = [nearest(one, patches[other]).distance for one, other in zip(patches, others, strict=True) if other]
    return round(float(np.quantile(distances, COPY_SHARE)), 3) if distances else 0.0


def _groups(catalog: pd.DataFrame) -> dict[str, str]:
    training = training_part(catalog)
    return dict(zip(training.image_sha256, training.group, strict=True))
