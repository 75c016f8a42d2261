"""How the masks of DRAEM, GLASS and CutPaste are distributed, by as many draws as their published code was measured with.

`python -m benchmarks.mask_statistics` needs no data; half a minute of one core. The tests ask for the same of fewer draws.
Masks are of 256 px, with the published values. The last column is what their released code gave: 4,000 draws of Perlin noise, 1,000 with an
object, 5,000 of CutPaste.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stage.core.params import load_params
from stage.core.progress import track
from stage.datasets.components import components
from stage.synthesis.cuts import drawn_cut, patch_size
from stage.synthesis.methods.draem import PUBLISHED
from stage.synthesis.methods.glass import GlassRule, combined
from stage.synthesis.perlin import perlin_mask

SIZE, NOISE, ON_OBJECT, CUTS = 256, 4_000, 1_000, 5_000
PAPER = load_params(Path(__file__).parents[1] / "params" / "paper-mvtec.yaml")
Mask = NDArray[np.uint8]
Random = np.random.Generator
T = TypeVar("T")


class Row(NamedTuple):
    """A line of the table."""

    what: str
    draws: int
    found: str
    published: str


def main() -> None:
    """Print the table."""
    table = Table(*("masks", "draws", "here", "released code"), title=f"Masks of {SIZE} px")
    for row in (*single(np.random.default_rng(0)), *mixture(np.random.default_rng(1)), *cuts(np.random.default_rng(2))):
        table.add_row(row.what, f"{row.draws:,}", row.found, row.published)
    Console(width=110).print(table)


def single(random: Random) -> list[Row]:
    """DRAEM's masks: one threshold of rotated noise."""
    masks = drawn(lambda: perlin_mask(SIZE, SIZE, PUBLISHED, random), NOISE, "single masks")
    parts = [components(mask).max() for mask in masks if mask.any()]
    return [
        Row("Perlin noise, empty", NOISE, share(masks), "4.5 %"),
        Row("its cover, mean", NOISE, cover(masks), "4.9 %"),
        Row("its cover where not empty, 5th to 95th percentile", NOISE, spread(masks), "1.9, 3.9, 4.7, 5.7, 9.4 %"),
        Row("its parts, median and 95th percentile", NOISE, f"{np.median(parts):.0f}, {np.percentile(parts, 95):.0f}", "10, 107"),
    ]


def mixture(random: Random) -> list[Row]:
    """GLASS's masks: unions, intersections and single ones; and on a disc of a fifth of the image."""
    found = drawn(lambda: combined(SIZE, SIZE, PUBLISHED, random), NOISE, "combined masks")
    by_rule = {rule: [mask for mask, name in found if name == rule] for rule in ("union", "intersection")}
    masks = [mask for mask, _ in found]
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    disc = (np.hypot(rows, columns) <= SIZE * np.sqrt(0.2 / np.pi)).astype(np.uint8)
    tries = [one.tries for one in drawn(lambda: GlassRule(PAPER.glass, PUBLISHED).mask(disc, random), ON_OBJECT, "masks on a disc")]
    return [
        Row("GLASS, empty before another try", NOISE, share(masks), "8.3 %"),
        Row("its cover, mean", NOISE, cover(masks), "4.9 %"),
        Row("unions, empty", len(by_rule["union"]), share(by_rule["union"]), "0.2 %"),
        Row("unions, cover", len(by_rule["union"]), cover(by_rule["union"]), "9.3 %"),
        Row("intersections, empty", len(by_rule["intersection"]), share(by_rule["intersection"]), "20.6 %"),
        Row("intersections, cover", len(by_rule["intersection"]), cover(by_rule["intersection"]), "0.28 %"),
        Row("tries on a disc of 20 % of the image, mean", ON_OBJECT, f"{np.mean(tries):.2f}", "1.29"),
    ]


def cuts(random: Random) -> list[Row]:
    """CutPaste's patches and scars."""
    whole = np.ones((SIZE, SIZE), np.uint8)
    patches = np.array([patch_size((SIZE, SIZE), PAPER.cutpaste, random) for _ in range(CUTS)])
    scars = drawn(lambda: drawn_cut("scar", whole, PAPER.cutpaste, random)[0], CUTS, "scars")
    areas = [int(one.shape.sum()) for one in scars]
    clipped = np.mean([one.mask(SIZE, SIZE).sum() != area for one, area in zip(scars, areas, strict=True)])
    fifth, median, last = np.percentile(areas, (5, 50, 95))
    return [
        Row("CutPaste, patches, cover, mean", CUTS, f"{100 * (patches.prod(axis=1) / SIZE**2).mean():.1f} %", "8.4 %"),
        Row("scars, px, mean", CUTS, f"{np.mean(areas):.0f}", "159"),
        Row("scars, px, 5th percentile, median, 95th", CUTS, f"{fifth:.0f}, {median:.0f}, {last:.0f}", "39, 144, 325"),
        Row("scars clipped by the border", CUTS, f"{100 * clipped:.1f} %", "3.1 %"),
    ]


def drawn(draw: Callable[[], T], count: int, label: str) -> list[T]:
    """So many draws, with their progress."""
    return [draw() for _ in track(range(count), total=count, label=label)]


def share(masks: list[Mask]) -> str:
    """How many are empty."""
    return f"{100 * np.mean([not mask.any() for mask in masks]):.1f} %"


def cover(masks: list[Mask]) -> str:
    """The mean share of the image."""
    return f"{100 * np.mean([mask.mean() for mask in masks]):.2f} %"


def spread(masks: list[Mask]) -> str:
    """The 5th, 25th, 50th, 75th and 95th percentile of the cover of masks that are not empty."""
    found = np.percentile([100 * mask.mean() for mask in masks if mask.any()], (5, 25, 50, 75, 95))
    return ", ".join(f"{value:.1f}" for value in found) + " %"


if __name__ == "__main__":
    main()
