"""Compares real and synthetic defects in one long table, with the targets that samples meet or miss.

Real defects are those of the generator's third, so no test image is read. n examples, F features.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from stage.core.arrays import Values
from stage.core.digests import derived_seed
from stage.core.progress import track
from stage.datasets.examples import CATALOG, column, pairs_of
from stage.datasets.pairs import Pair
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_part
from stage.release.reader import read_samples, sample_rows
from stage.segmentation.results import read_table
from stage.synthesis.fidelity import DISTANCES, MEASURES, SHAPE, measured, shape_of_mask
from stage.synthesis.kernel_distance import Distance, between_halves, kernel_distance
from stage.synthesis.rows import NamedMask

FIDELITY = "fidelity.parquet"
COLUMNS = ("category", "defect", "made_by", "measure", "distance", "count", "value", "error", "ratio", "target")
REAL = "real"  # no method has this name
FIRST = 500  # accepted samples of a type and method that are measured; as many as the paper makes
LEAST_REAL = 5  # examples of a type without which it is not judged
VALUES = (*MEASURES, *DISTANCES, *SHAPE)  # the columns of an example's measured values
MEDIANS = MEASURES[:4]
SPREADS = {"spread_colour": ("red", "green", "blue"), "spread_contrast": ("contrast_edge",), "spread_texture": ("texture",)}
SHAPE_SPREADS = {f"spread_{name}": (name,) for name in SHAPE}  # of the masks; no target asks for these
PROFILE, KID = "profile", "kid"
LEAST = {"contrast_edge": 0.8, "contrast_core": 0.8} | dict.fromkeys(SPREADS, 0.7)  # of the real defects' value
MOST = {"grain": 1.3}


class MeasuredDefects(NamedTuple):
    """Defects of a type: `values` (n, .) as `measured` and `shape_of_mask` give them, `features` (n, F), and each one's part."""

    values: Values
    features: Values
    parts: list[str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Pair, str]]) -> Self:
        """Pairs and their parts, measured; those without a pixel of defect are left out."""
        from stage.synthesis.appearance import (  # here, because it imports torch, which reading the table does not need
            ALONE,
            described_alone,
        )

        held = [
            (np.append(measured(*pair), shape_of_mask(pair.mask)), described_alone(*pair), part) for pair, part in pairs if pair.mask.any()
        ]
        values, features, parts = zip(*held, strict=True) if held else ([], [], [])
        return cls(np.array(values).reshape(-1, len(VALUES)), np.array(features).reshape(-1, ALONE), [*parts])


def measure_fidelity(data: Path, categories: Sequence[str], methods: Sequence[str], seed: int) -> pd.DataFrame:
    """The long table of COLUMNS for what is published under `data`; the same for the same data and seed."""
    rows = [row for name in categories for row in _category_rows(data, name, methods, np.random.default_rng(derived_seed(seed, name)))]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"distance": "Int64"})


def write_fidelity(table: pd.DataFrame, output: Path) -> None:
    """Write the table as Parquet and CSV."""
    table.to_parquet(output / FIDELITY, index=False)
    table.to_csv((output / FIDELITY).with_suffix(".csv"), index=False)


def read_fidelity(data: Path) -> pd.DataFrame:
    """What `evaluate` published. Raises Refusal if there is nothing, CorruptFileError on another file of that name."""
    return read_table(data / "evaluate" / FIDELITY, COLUMNS)


def compared(real: MeasuredDefects, other: MeasuredDefects, random: np.random.Generator | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `other` against `real`; with `random`, of the real defects themselves, whose distance is that between random halves."""
    values = {(one["measure"], one["distance"]): one["value"] for one in _statistics(real.values)}
    known = {one["measure"]: one["count"] for one in _statistics(real.values)}
    for one in _statistics(other.values):
        truth = values[one["measure"], one["distance"]]
        ratio = one["value"] / truth if truth > 0 else math.nan
        is_judged = random is None and known[one["measure"]] >= LEAST_REAL
        yield {**one, "error": math.nan, "ratio": ratio, "target": _target(one["measure"], ratio) if is_judged else ""}
    found = between_halves(_scaled(real, real), real.parts, random) if random else _distance(real, other)
    told = {"measure": KID, "distance": None, "count": len(other.parts), "ratio": math.nan, "target": ""}
    yield {**told, **found._asdict()}


def _category_rows(data: Path, category: str, methods: Sequence[str], random: np.random.Generator) -> Iterator[dict[str, Any]]:
    catalog = data / "prepare" / category
    pairs = pairs_of(catalog, "train", good=False)
    defects, groups = column(pairs, "defect"), column(pairs, "group")
    chosen = {defect: [k for k, one in enumerate(defects) if one == defect] for defect in sorted(set(defects))}
    real = {defect: MeasuredDefects.of((pairs[k], groups[k]) for k in numbers) for defect, numbers in chosen.items()}
    made = {method: _samples(data / "synthesize" / category / method, catalog, method) for method in methods}
    for defect, examples in real.items():
        yield from _told(compared(examples, examples, random), category=category, defect=defect, made_by=REAL)
        for method, samples in made.items():
            synthetic = MeasuredDefects.of(samples.get(defect, ()))
            yield from _told(compared(examples, synthetic), category=category, defect=defect, made_by=method)


def _told(rows: Iterable[dict[str, Any]], **names: str) -> Iterator[dict[str, Any]]:
    yield from ({**names, **row} for row in rows)


def _samples(folder: Path, catalog: Path, method: str) -> dict[str, Iterator[tuple[Pair, str]]]:
    """The first accepted samples of each type with their parts; a sample made from noise, or from a defect that is gone, is a part of its own."""
    part = _parts(read_catalog(catalog / CATALOG))
    rows = sample_rows(folder, ["sample_id", "defect", "verdict", "source_sha256", "mask_path", "mask_sha256"])
    pairs, chosen = read_samples(folder, accepted_only=True), dict[str, list[tuple[int, dict[str, Any]]]]()
    for number, row in enumerate(row for row in rows if row["verdict"] == "accepted"):
        first = chosen.setdefault(row["defect"], [])
        if len(first) < FIRST:
            first.append((number, row))

    def stream(defect: str) -> Iterator[tuple[Pair, str]]:
        first = chosen[defect]
        for number, row in track(first, total=len(first), label=f"fidelity {catalog.name} {method} {defect}"):
            origin = part.get(row["source_sha256"] or NamedMask(row["mask_path"], row["mask_sha256"]))
            yield pairs[number], origin or row["sample_id"]

    return {defect: stream(defect) for defect in chosen}


def _parts(catalog: pd.DataFrame) -> dict[str | NamedMask, str]:
    """The group of every defect of the training part, by the SHA-256 of its photograph and by its mask."""
    training = training_part(catalog).loc[lambda part: part.defect != GOOD]
    masks = map(NamedMask, training.mask_path, training.mask_sha256)
    return dict(zip([*training.image_sha256, *masks], [*training.group, *training.group], strict=True))


def _statistics(values: Values) -> Iterator[dict[str, Any]]:
    """Medians, spreads and the profile of measured examples; NaN where no example, or for a spread only one, has the measure."""
    of = {name: known[np.isfinite(known)] for name, known in zip(VALUES, values.T, strict=True)}
    for name in (*MEDIANS, *SHAPE):
        yield _row(name, len(of[name]), float(np.median(of[name])) if len(of[name]) else math.nan)
    for name, parts in (SPREADS | SHAPE_SPREADS).items():
        variances = [of[part].var(ddof=1) if len(of[part]) > 1 else math.nan for part in parts]
        yield _row(name, len(of[parts[0]]), float(np.sqrt(np.mean(variances))))
    for distance in DISTANCES:
        yield _row(PROFILE, len(of[distance]), float(of[distance].mean()) if len(of[distance]) else math.nan, distance)


def _row(measure: str, count: int, value: float, distance: int | None = None) -> dict[str, Any]:
    return {"measure": measure, "distance": distance, "count": count, "value": value}


def _target(measure: str, ratio: float) -> str:
    """Whether a measure meets its target, judged as shown, with two decimals; empty without a target."""
    if measure not in LEAST and measure not in MOST:
        return ""
    if math.isnan(ratio):
        return "unknown"
    return "met" if LEAST.get(measure, 0) <= round(ratio, 2) <= MOST.get(measure, math.inf) else "missed"


def _distance(real: MeasuredDefects, other: MeasuredDefects) -> Distance:
    return kernel_distance(_scaled(real, real), _scaled(other, real), real.parts, other.parts)


def _scaled(examples: MeasuredDefects, real: MeasuredDefects) -> Values:
    """Features divided by the root mean square of the real ones; otherwise the kernel's cubic term alone would count."""
    return examples.features / max(float(np.sqrt(np.mean(real.features**2))) if real.features.size else 1.0, 1e-9)
