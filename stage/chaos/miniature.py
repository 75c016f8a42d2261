"""A whole category in miniature: images of noise, an untrained base and an untrained checkpoint, made in a second.

Its samples need not look like anything, but must come out the same whatever happens. `stage chaos` works on it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stage.core.params import Params
from stage.core.synthesis_params import VerdictRule
from stage.datasets.catalog import prepare
from stage.datasets.examples import defect_images
from stage.model.checkpoints import save_checkpoint
from stage.model.examples import Examples, pretraining_examples, through_windows
from stage.model.generator import Generator
from stage.model.latents import CachedLatents
from stage.model.pretraining import untrained

CATEGORY = "part"
DEFECTS = {"crack": 6, "spot": 3}  # images; a third of each is the generator's
SIZE = 16  # px
Scale = Mapping[str, Mapping[str, object]]
SMALLEST: Scale = {
    "base": {"image_size": SIZE, "timestep_count": 1000},
    "pretrain": {"start": "none", "patch": 2, "widths": (16,), "text_width": 16},
    "method": {"token_count": 2},
    "train": {"adapter_widths": (8,), "timesteps_below": 1000},
    "synthesize": {
        "count": 6,
        "attempts": 1,  # one job; another round would test nothing new
        "batch": 4,
        "shard_rows": 5,
        "start": "noise",
        "steps": 2,
        "verdict": VerdictRule(normal_pass=1.0, pastes=4),  # no verdict: it would reject an untrained network's samples
        "spacing": "uniform",
        "known_region": "posterior",
        "compiled": False,
    },
    "segment": {"arms": ()},  # without the demo's perfect samples
    "execution": {"device": "cpu", "threads": 1, "workers": 1},
}


class Miniature(NamedTuple):
    """The folders of the category, and its parameters."""

    catalog: Path
    base: Path
    checkpoint: Path
    params: Params


def make_miniature(root: Path, params: Params, scale: Scale = SMALLEST) -> Miniature:
    """Draw, prepare and save a category below `root`, as the DVC stages would, with `params` changed by `scale`."""
    small = _scaled(params, scale)
    draw(root / "raw", small.base.image_size)
    made = Miniature(root / "prepare" / CATEGORY, root / "base", root / "train" / CATEGORY, small)
    prepare(small.prepare, small.categories, root / "raw", root / "prepare")
    images = defect_images(made.catalog, CATEGORY)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = untrained(_examples(made), small.pretrain, small.base.timestep_count).freeze()
        base.save(made.base)
        bounds = CachedLatents.encode(base, images, small.method, augment=False, image_size=small.base.image_size).bounds
        generator = Generator(base, CATEGORY, images.types, small.method.token_count, small.train.adapter_widths, residual=True)
    save_checkpoint(generator, bounds, made.base, made.checkpoint, with_unet=False)
    return made


def _scaled(params: Params, scale: Scale) -> Params:
    sections = {name: getattr(params, name).model_copy(update=values) for name, values in scale.items()}
    size = sections["base"].image_size
    foreground = params.prepare.foreground.model_copy(update={"strategy": "none"})
    drawn = {"layout": "mvtec", "image_size": size, "licence": "CC0-1.0", "foreground": foreground}
    sections["prepare"] = params.prepare.model_copy(update=drawn)
    return params.model_copy(update={"name": "miniature", "categories": (CATEGORY,), **sections})


def _examples(made: Miniature) -> Examples:
    examples = pretraining_examples([made.catalog], made.params.base.prompts)
    return through_windows(examples, made.params.method.crop, made.params.base.image_size, np.random.default_rng(0))


def draw(root: Path, size: int) -> None:
    """Draw a data set in MVTec AD's layout: noise on grey, each defect's mask a rectangle of its own."""
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 2)):
        for number in range(count):
            _save(root / CATEGORY / split / "good" / f"{number:03}.png", _photograph(random, size))
    for defect, count in DEFECTS.items():
        for number in range(count):
            mask = np.zeros((size, size), np.uint8)
            mask[2 + number : 11, 3 : 9 + len(defect)] = 255
            photograph = _photograph(random, size)
            photograph[mask > 0] = 255 if defect == "crack" else 0
            _save(root / CATEGORY / "test" / defect / f"{number:03}.png", photograph)
            _save(root / CATEGORY / "ground_truth" / defect / f"{number:03}_mask.png", mask)


def _photograph(random: np.random.Generator, size: int) -> NDArray[np.uint8]:
    return random.integers(90, 150, (size, size, 3), dtype=np.uint8)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
