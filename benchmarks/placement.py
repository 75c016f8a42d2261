"""How much of the masks lies on the part, for each way of placing them, against the real masks on theirs. Needs prepared data.

`python -m benchmarks.placement PARAMS DATA CATEGORY`: `DATA` holds `prepare/`. Plans rows and renders nothing, so no network is needed.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from stage.core.params import Params, load_params
from stage.datasets.table import read_catalog
from stage.synthesis.method import METHODS
from stage.synthesis.placement import row_mask
from stage.synthesis.plan import defects_of
from stage.synthesis.recipe import recipe_of
from stage.synthesis.rows import Identity
from stage.synthesis.source import Source, read_source

COUNT = 100  # masks of a type
WAYS = (("stage", "as_is"), ("stage", "on_object"), ("stage", "on_part"), ("paste", "as_is"), ("paste", "on_part"))


class Placed(NamedTuple):
    """A mask: its type, the share of it on the object, how far that is below the share of the real mask it comes from, and its area by that one's."""

    defect: str
    share: float
    below: float
    area: float


def share_on(mask: np.ndarray, part: np.ndarray) -> float:
    """The share of a mask's pixels that lie on the part."""
    return float((mask * part).sum() / mask.sum())


def real(catalog: pd.DataFrame, source: Source) -> Iterator[Placed]:
    """The real masks of the training part, on their own objects."""
    for defect, some in defects_of(catalog).items():
        for one in some:
            yield Placed(defect, share_on(source.masks[one.mask].mask, source.foregrounds[one.mask]), 0.0, 1.0)


def planned(params: Params, folder: Path, method: str, placement: str, catalog: pd.DataFrame, source: Source) -> Iterator[Placed]:
    """The masks of a method's first rows, on their backgrounds' objects."""
    changed = params.model_copy(update={"synthesize": params.synthesize.model_copy(update={"placement": placement})})
    recipe = recipe_of(method, folder.name, changed, catalog=folder, base=None, checkpoint=None)
    plan = METHODS[method].planner(recipe, catalog, source)
    for defect in defects_of(catalog):
        for number in range(COUNT):
            row = plan(Identity(method, folder.name, defect, number, 0))
            mask, own = row_mask(row, source, params.synthesize.perlin), source.masks[row.mask].mask
            share = share_on(mask, source.foregrounds[row.background_sha256])
            yield Placed(defect, share, share_on(own, source.foregrounds[row.mask]) - share, mask.sum() / own.sum())


def main(file: str, data: str, category: str) -> None:
    """Print a row per way of placing masks."""
    params, folder = load_params(Path(file)), Path(data) / "prepare" / category
    catalog, source = read_catalog(folder / "catalog.parquet"), read_source(folder)
    table = Table(
        "method",
        "placement",
        "on the object, %",
        "type's mean below real, most",
        "one mask below real, most",
        "area, % of real",
        "ms a row",
    )
    own = pd.DataFrame(real(catalog, source))
    table.add_row("real", "", f"{100 * own.share.mean():.1f}", "", "", "", "")
    for method, placement in WAYS:
        start = time.perf_counter()
        found = pd.DataFrame(planned(params, folder, method, placement, catalog, source))
        milliseconds = 1000 * (time.perf_counter() - start) / len(found)
        of_type = own.groupby("defect").share.mean() - found.groupby("defect").share.mean()
        shown = (100 * found.share.mean(), 100 * of_type.max(), 100 * found.below.max(), 100 * found.area.mean(), milliseconds)
        table.add_row(method, placement, *(f"{value:.1f}" for value in shown))
    Console(width=140).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
