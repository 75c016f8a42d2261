"""How fast the methods without networks are, and DRAEM, GLASS and CutPaste beside vectorised transcriptions of their specifications.

`python -m benchmarks.rivals [CATEGORY]` in a project whose category is prepared. Samples are planned, rendered, judged by their contrast
alone, and written as shards; one process, one thread. Wants a machine that does nothing else; about two minutes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import transcriptions
from stage.core.params import Params, load_params
from stage.core.synthesis_params import CutPaste
from stage.datasets.blending import mixed
from stage.datasets.pairs import Pair
from stage.datasets.table import read_catalog
from stage.jobs.inputs import inputs_of, origin_of
from stage.synthesis.augmenters import drawn
from stage.synthesis.batch import write_batch
from stage.synthesis.colour_jitter import jittered
from stage.synthesis.cuts import drawn_cut
from stage.synthesis.method import METHODS
from stage.synthesis.methods.cutpaste import pasted
from stage.synthesis.methods.draem import DraemRule
from stage.synthesis.methods.glass import GlassRule
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.procedural import procedural
from stage.synthesis.recipe import recipe_of
from stage.synthesis.source import Source, read_source
from stage.synthesis.textured import Rule

RIVALS = ("paste", "quilt", "cutpaste", "draem", "glass")
PAIRS, DRAWS, MVTEC = 128, 512, 36_500
Pixels = NDArray[np.uint8]
Maker = Callable[[Pixels], Pair]


def main() -> None:
    """Print both tables."""
    cv2.setNumThreads(1)
    params = load_params()
    category = sys.argv[1] if len(sys.argv) > 1 else params.categories[0]
    folder = Path("data/prepare") / category
    Console().print(methods_table(params, folder))
    Console().print(transcriptions_table(params, next(iter(read_source(folder).backgrounds.values())).image))


def methods_table(params: Params, folder: Path) -> Table:
    """Milliseconds of the processor for a pair of each method, by step."""
    table = Table(title=f"{folder.name}, ms of the processor a pair, without the verdict's measure")
    for name in ("method", "plan", "render", "judge and write", "36,500 pairs on 2 cores, min"):
        table.add_column(name)
    source = read_source(folder)
    for name in RIVALS:
        plan, render, whole = steps(name, params, folder, source)
        table.add_row(name, *(f"{value:.1f}" for value in (plan, render, whole - render, (plan + whole) * MVTEC / 2 / 60_000)))
    return table


def steps(name: str, params: Params, folder: Path, source: Source) -> tuple[float, float, float]:
    """Milliseconds a pair: planning, rendering, and rendering, judging and writing."""
    recipe = recipe_of(name, folder.name, params, catalog=folder, base=None, checkpoint=None)
    recipe = recipe.model_copy(update={"synthesize": recipe.synthesize.model_copy(update={"count": PAIRS})})
    catalog = read_catalog(folder / "catalog.parquet")
    batches = [*first_round(name, folder.name, [next(iter(defects_of(catalog)))], recipe.synthesize)]
    planner, renderer = METHODS[name].planner(recipe, catalog, source), METHODS[name].renderer(recipe, "cpu")
    planner(batches[0][0])  # what is computed once
    plan_ms, rows = timed(lambda: [[planner(one) for one in batch] for batch in batches])
    render_ms, _ = timed(lambda: [renderer.render(batch, source) for batch in rows])
    origin = origin_of(recipe, inputs_of(recipe), "benchmark")
    with tempfile.TemporaryDirectory() as place:
        write = [lambda batch=batch: write_batch(renderer, batch, source, None, origin=origin, file=Path(place) / "x") for batch in rows]
        whole_ms, _ = timed(lambda: [one() for one in write])
    return plan_ms / PAIRS, render_ms / PAIRS, whole_ms / PAIRS


def transcriptions_table(params: Params, photograph: Pixels) -> Table:
    """Our pairs beside the transcriptions': from a photograph and a texture in memory to a synthetic image and its mask, by the paper's rules."""
    table = Table(title=f"{len(photograph)} px, from pictures in memory, paper's presets, ms of the processor a pair (pairs a second)")
    for name in ("method", "transcription", "ours", "times as fast"):
        table.add_column(name)
    textures, random = [procedural(*photograph.shape[:2], seed) for seed in range(16)], np.random.default_rng(0)
    for name, (theirs, ours) in makers(params, photograph, random).items():
        spent = [timed(lambda make=make: [make(textures[k % 16]) for k in range(DRAWS)])[0] / DRAWS for make in (theirs, ours)]
        table.add_row(name, *(f"{value:.2f} ({1000 / value:.0f})" for value in spent), f"{spent[0] / spent[1]:.1f}")
    return table


def makers(params: Params, photograph: Pixels, random: np.random.Generator) -> dict[str, tuple[Maker, Maker]]:
    """For each method a transcription and our own code, functions from a texture to a pair."""
    rules = {
        "draem": DraemRule(params.draem.model_copy(update={"preset": "paper"}), params.synthesize.perlin),
        "glass": GlassRule(params.glass.model_copy(update={"preset": "paper", "smallest": 1}), params.synthesize.perlin),
    }
    published = params.cutpaste.model_copy(update={"variant": "union", "overlap": 1.0, "on_object": 0.0})
    return {
        "draem": (lambda texture: transcriptions.draem(photograph, texture, random), partial(textured, rules["draem"], photograph, random)),
        "glass": (lambda texture: transcriptions.glass(photograph, texture, random), partial(textured, rules["glass"], photograph, random)),
        "cutpaste": (lambda _: transcriptions.cutpaste(photograph, random), lambda _: cut_and_pasted(published, photograph, random)),
    }


def textured(rule: Rule, photograph: Pixels, random: np.random.Generator, texture: Pixels) -> Pair:
    """A pair of DRAEM or GLASS."""
    mask = rule.mask(np.ones(photograph.shape[:2], np.uint8), random).mask
    anomaly = rule.dressed(texture, photograph, drawn(*rule.augmenters, random), random)
    return Pair(mixed(anomaly, photograph, mask, rule.opacity(random)), mask)


def cut_and_pasted(params: CutPaste, photograph: Pixels, random: np.random.Generator) -> Pair:
    """A pair of CutPaste."""
    cut, _ = drawn_cut(("patch", "scar")[random.integers(2)], np.ones(photograph.shape[:2], np.uint8), params, random)
    mask, piece = cut.mask(*photograph.shape[:2]), jittered(cut.piece(photograph), params.jitter, random)
    return Pair(pasted(piece, photograph, mask, cut.box), mask)


def timed(act: Callable[[], list]) -> tuple[float, list]:
    """Milliseconds of the processor, and what came of it."""
    begun = time.process_time()
    made = act()
    return 1000 * (time.process_time() - begun), made


if __name__ == "__main__":
    main()
