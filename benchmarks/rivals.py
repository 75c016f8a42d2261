"""How fast the methods without networks are, and DRAEM beside a vectorised transcription of its released loader.

`python -m benchmarks.rivals [CATEGORY]` in a project whose category is prepared. Samples are planned, rendered, judged by their contrast
alone, and written as shards; one process, one thread. Wants a machine that does nothing else; about two minutes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from skimage import exposure

from stage.core.params import Params, load_params
from stage.datasets.blending import mixed
from stage.datasets.pairs import Pair
from stage.datasets.table import read_catalog
from stage.jobs.inputs import inputs_of, origin_of
from stage.synthesis.augmenters import AUGMENTERS, drawn, rotated
from stage.synthesis.batch import write_batch
from stage.synthesis.method import METHODS
from stage.synthesis.methods.draem import DraemRule
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.procedural import procedural
from stage.synthesis.recipe import recipe_of
from stage.synthesis.source import Source, read_source

RIVALS = ("paste", "quilt", "cutpaste", "draem", "glass")
PAIRS, MVTEC = 128, 36_500
Pixels = NDArray[np.uint8]


def main() -> None:
    """Print both tables."""
    cv2.setNumThreads(1)
    params = load_params()
    category = sys.argv[1] if len(sys.argv) > 1 else params.categories[0]
    folder = Path("data/prepare") / category
    Console().print(methods_table(params, folder))
    Console().print(draem_table(params, folder))


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


def draem_table(params: Params, folder: Path) -> Table:
    """Our pairs beside the transcription's: from a photograph and a texture in memory to a blended image and its mask."""
    rule = DraemRule(params.draem.model_copy(update={"preset": "paper"}), params.synthesize.perlin)
    photograph = next(iter(read_source(folder).backgrounds.values())).image
    textures, random = [procedural(*photograph.shape[:2], seed) for seed in range(16)], np.random.default_rng(0)

    def ours(texture: Pixels) -> Pair:
        mask = rule.mask(np.ones(photograph.shape[:2], np.uint8), random).mask
        anomaly = rule.dressed(texture, photograph, drawn([*AUGMENTERS], 3, random), random)
        return Pair(mixed(anomaly, photograph, mask, rule.opacity(random)), mask)

    table = Table(title=f"DRAEM, {len(photograph)} px, from pictures in memory, paper's preset")
    for name in ("", "ms a pair", "pairs a second"):
        table.add_column(name)
    for name, make in {"transcription": lambda texture: transcribed(photograph, texture, random), "ours": ours}.items():
        spent, _ = timed(lambda make=make: [make(textures[k % 16]) for k in range(PAIRS)])
        table.add_row(name, f"{spent / PAIRS:.1f}", f"{1000 * PAIRS / spent:.0f}")
    return table


def transcribed(photograph: Pixels, texture: Pixels, random: np.random.Generator) -> Pair:
    """A pair as the released loader makes it, whole arrays at a time, with scikit-image and SciPy in place of imgaug."""
    height, width = photograph.shape[:2]
    mask = np.zeros((height, width), np.float32)
    while not mask.any():
        lattice = [2 ** int(random.integers(6)) for _ in range(2)]
        noise = tiled_noise((height, width), (lattice[0], lattice[1]), random)
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), random.uniform(-90, 90), 1)
        mask = (np.asarray(cv2.warpAffine(noise, turn, (width, height))) > 0.5).astype(np.float32)  # imgaug's rotation is OpenCV's, too
    for k in random.permutation(len(TRANSCRIBED))[:3]:
        texture = TRANSCRIBED[k](texture, random)
    image, anomaly, inside = photograph.astype(np.float32) / 255, texture.astype(np.float32) / 255, mask[..., None]
    beta = random.random() * 0.8
    made = image * (1 - inside) + (1 - beta) * anomaly * inside + beta * image * inside
    return Pair((made * 255).astype(np.uint8), mask.astype(np.uint8))


def tiled_noise(shape: tuple[int, int], lattice: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Perlin noise by repeating the gradients of every cell over its pixels, as published; the sizes have to divide."""
    cell = (shape[0] // lattice[0], shape[1] // lattice[1])
    grid = np.mgrid[0 : lattice[0] : lattice[0] / shape[0], 0 : lattice[1] : lattice[1] / shape[1]].transpose(1, 2, 0) % 1
    angles = 2 * np.pi * random.random((lattice[0] + 1, lattice[1] + 1))
    gradients = np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    corners = {}
    for y, x in np.ndindex(2, 2):
        tiled = gradients[y : lattice[0] + y, x : lattice[1] + x].repeat(cell[0], 0).repeat(cell[1], 1)
        corners[y, x] = ((grid - (y, x)) * tiled).sum(-1)
    fade = 6 * grid**5 - 15 * grid**4 + 10 * grid**3
    left, right = (corners[0, x] + fade[..., 0] * (corners[1, x] - corners[0, x]) for x in (0, 1))
    return np.sqrt(2) * (left + fade[..., 1] * (right - left))


def _channels(picture: Pixels, change: Callable[[Pixels], NDArray[np.floating]]) -> Pixels:
    return np.stack([np.clip(change(picture[..., k]), 0, 255).astype(np.uint8) for k in range(3)], axis=2)


def _shifted(picture: Pixels, random: np.random.Generator) -> Pixels:
    moved = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.int64)
    moved[..., 0] = (moved[..., 0] + int(random.integers(-35, 36))) % 180
    moved[..., 1] = np.clip(moved[..., 1] + random.integers(-50, 51), 0, 255)
    return np.asarray(cv2.cvtColor(moved.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


TRANSCRIBED: list[Callable[[Pixels, np.random.Generator], Pixels]] = [
    lambda picture, random: _channels(picture, lambda one: 255 * exposure.adjust_gamma(one / 255, random.uniform(0.5, 2))),
    lambda picture, random: _channels(picture, lambda one: one * random.uniform(0.8, 1.2) + random.uniform(-30, 30)),
    lambda picture, random: _channels(
        picture, lambda one: one + random.uniform(0, 1) * (one - ndimage.uniform_filter(one.astype(float), 3))
    ),
    _shifted,
    lambda picture, random: np.where(picture > random.uniform(32, 128), 255 - picture, picture),
    lambda picture, random: picture >> 4 << 4,
    lambda picture, random: 255 - picture,
    lambda picture, random: _channels(
        picture, lambda one: 255 * exposure.rescale_intensity(one / 255, tuple(np.percentile(one / 255, (10, 90))))
    ),
    lambda picture, random: _channels(picture, lambda one: 255 * exposure.equalize_hist(one)),
    lambda picture, random: rotated(picture, random.uniform(-45, 45), cv2.INTER_LINEAR),
]


def timed(act: Callable[[], list]) -> tuple[float, list]:
    """Milliseconds of the processor, and what came of it."""
    begun = time.process_time()
    made = act()
    return 1000 * (time.process_time() - begun), made


if __name__ == "__main__":
    main()
