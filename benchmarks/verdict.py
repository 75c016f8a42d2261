"""How often the verdict lets nothing pass, and real defects; and how much of the labels looks normal. Needs prepared data.

`python -m benchmarks.verdict PARAMS DATA METHOD CATEGORY...`: `DATA` holds `prepare/` and, for the samples' rows, `synthesize/`. The measure is
calibrated as `synthesize` does; what it is tried on are other pastes of the training part. No test image is read.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as pads
import torch
from rich.console import Console
from rich.table import Table

from stage.core.params import Params, load_params
from stage.datasets.pairs import Pair, decode_image, decode_mask
from stage.datasets.table import read_catalog
from stage.synthesis.calibration import calibrate
from stage.synthesis.judge import Judge, difference_sums
from stage.synthesis.null import Paster, nothing_of
from stage.synthesis.recipe import recipe_of
from stage.synthesis.source import Source, read_source

FRESH = 2  # the draw of the pastes that are judged; calibration has draws 0 and 1
EARLIER = 8.0  # of 255; the contrast that was once enough for a sample
SHOWN = 200  # published samples of a method that are judged


class Judged(NamedTuple):
    """A paste or a sample: of which kind and type, whether it passes, did so once, which share of its label looks normal, and the copy's distance."""

    kind: str
    defect: str
    passes: bool
    passed_earlier: bool
    looks_normal: float
    distance: float


def judged(judge: Judge, kind: str, defect: str, sample: Pair, background: np.ndarray) -> Judged:
    """What the measure says of one sample."""
    seen = judge.looks(sample, background, defect)
    contrast = difference_sums(sample, background).mean() / 3
    return Judged(kind, defect, bool((seen.margins >= 0).all()), contrast >= EARLIER, seen.looks_normal, seen.nearest_distance)


def published(folder: Path, judge: Judge, source: Source) -> Iterator[Judged]:
    """Samples of a method, evenly spaced, whatever their verdict was; none where nothing is published."""
    if not folder.is_dir():
        return
    columns = ["defect", "background_sha256", "image", "mask"]
    table = pads.dataset(sorted((folder / "shards").glob("*.parquet"))).to_table(columns=columns)
    step = max(1, len(table) // SHOWN)
    for row in table.take(list(range(0, len(table), step))).to_pylist():
        sample = Pair(decode_image(row["image"]["bytes"]), decode_mask(row["mask"]["bytes"]))
        yield judged(judge, "sample", row["defect"], sample, source.backgrounds[row["background_sha256"]].image)


def measure(params: Params, data: Path, method: str, category: str) -> Table:
    """The table of a category."""
    folder = data / "prepare" / category
    recipe = recipe_of(method, category, params, catalog=folder, base=None, checkpoint=None)
    catalog, source = read_catalog(folder / "catalog.parquet"), read_source(folder)
    judge = calibrate(recipe, catalog, source)
    paster = Paster(recipe, catalog, source)
    pastes = (one for drawn in paster.drawn(FRESH, params.synthesize.verdict.pastes) for one in paster.pastes(drawn))
    kinds = ("real", *nothing_of(recipe))
    found = [judged(judge, one.kind, one.defect, Pair(one.image, one.mask), one.background) for one in pastes if one.kind in kinds]
    found += published(data / "synthesize" / category / method, judge, source)
    table = Table(
        "type",
        "pastes",
        "pass",
        "of unseen parts",
        "contrast 8 let pass",
        "label looks normal",
        "near-copies",
        title=f"{category}, {method}",
    )
    groups = defaultdict[tuple[str, str], list[Judged]](list)
    for one in found:
        groups[one.defect, one.kind].append(one)
    for record in judge.records:
        for (_, kind), some in ((key, some) for key, some in groups.items() if key[0] == record.defect):
            shares = [np.mean([one.passes for one in some]), record.unseen_pass if kind == "real" else None]
            shares += [np.mean([one.passed_earlier for one in some]), np.mean([one.looks_normal for one in some])]
            shares.append(np.mean([one.distance < record.copy_distance for one in some]))
            table.add_row(record.defect, f"{kind} ({len(some)})", *("" if share is None else f"{100 * share:.1f} %" for share in shares))
    return table


def main(params: str, data: str, method: str, *categories: str) -> None:
    """Print a table per category."""
    torch.set_num_threads(1)
    for category in categories:
        Console(width=140).print(measure(load_params(Path(params)), Path(data), method, category))


if __name__ == "__main__":
    main(*sys.argv[1:])
