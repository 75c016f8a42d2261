"""GLASS (Chen, Luo, Gao, Zhang et al., ECCV 2024), its local anomaly synthesis: a texture under a union or intersection of Perlin masks.

Its other branch perturbs features inside a detector's training and makes no image, so it is not here.
H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stage.core.arrays import Pixels, Random
from stage.core.synthesis_params import Glass, Perlin
from stage.synthesis import colour_jitter
from stage.synthesis.augmenters import Augmenter, augmented, equalise, rotated
from stage.synthesis.method import Planner
from stage.synthesis.methods.draem import PUBLISHED
from stage.synthesis.perlin import perlin_mask
from stage.synthesis.recipe import Recipe
from stage.synthesis.source import Source
from stage.synthesis.texture_fit import centre_crop, covering
from stage.synthesis.textured import DrawnMask, TexturePlanner, TextureRenderer, as_grey_as, first_on


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans any normal photograph with any texture of the bank."""
    return TexturePlanner(recipe, catalog, source, GlassRule(recipe.glass, recipe.synthesize.perlin)).row


def renderer(recipe: Recipe, device: str) -> TextureRenderer:  # the signature of every method
    """The renderer, which has nothing to load."""
    return TextureRenderer(recipe, GlassRule(recipe.glass, recipe.synthesize.perlin))


class GlassRule(NamedTuple):
    """Presets: `paper` has the published noise over the whole image, cut to the object, `quality` the noise of `synthesize.perlin` over the object."""

    params: Glass
    perlin: Perlin

    @property
    def augmenters(self) -> tuple[Sequence[str], int]:
        """Three of nine in the paper."""
        return [*AUGMENTERS], self.params.augmenters

    @property
    def on_object(self) -> bool:
        """The paper has foreground masks for its data sets, made by hand-tuned thresholds."""
        return True

    @property
    def visible(self) -> float:
        """The paper keeps whatever comes out."""
        return self.params.visible

    def mask(self, part: NDArray[np.uint8], random: Random) -> DrawnMask:
        """The first draw with enough pixels on the object; the released code draws for ever."""
        is_paper = self.params.preset == "paper"
        perlin = PUBLISHED if is_paper else self.perlin
        draw = partial(combined, perlin=perlin, random=random)
        return first_on(part, draw, random, fill=not is_paper, most=perlin.max_components, least=self.params.smallest)

    def opacity(self, random: Random) -> float:
        """Normal, clipped; the released code's beta, one minus the opacity, has the same distribution."""
        return float(np.clip(random.normal(self.params.opacity_mean, self.params.opacity_deviation), *self.params.opacity))

    def dressed(self, picture: Pixels, background: Pixels, names: Sequence[str], random: Random) -> Pixels:
        """Resized by its shorter side, augmented, and then cropped."""
        texture = augmented(covering(picture, *background.shape[:2]), names, random, AUGMENTERS)
        texture = centre_crop(texture, *background.shape[:2])
        return texture if self.params.preset == "paper" else as_grey_as(background, texture)


def combined(height: int, width: int, perlin: Perlin, random: Random) -> tuple[NDArray[np.uint8], str]:
    """The union of two Perlin masks, their intersection, or one alone, each one third of the time, and which; may be empty."""
    one, other = (perlin_mask(height, width, perlin, random) for _ in range(2))
    how = ("single", "intersection", "union")[random.integers(3)]
    return {"single": one, "intersection": one & other, "union": one | other}[how], how


def _contrast(picture: Pixels, random: Random) -> Pixels:
    return colour_jitter.contrast(picture, random.uniform(0.8, 1.2))


def _brightness(picture: Pixels, random: Random) -> Pixels:
    return colour_jitter.brightness(picture, random.uniform(0.8, 1.2))


def _colour(picture: Pixels, random: Random) -> Pixels:
    return colour_jitter.hue(colour_jitter.saturation(picture, random.uniform(0.8, 1.2)), random.uniform(-0.2, 0.2))


def _mirror(picture: Pixels, random: Random) -> Pixels:
    return np.ascontiguousarray(picture[:, ::-1])


def _flip(picture: Pixels, random: Random) -> Pixels:
    return np.ascontiguousarray(picture[::-1])


def _grey(picture: Pixels, random: Random) -> Pixels:
    return colour_jitter.grey(picture)


def _autocontrast(picture: Pixels, random: Random) -> Pixels:
    """Without the cut-off that DRAEM's has: GLASS takes torchvision's `RandomAutocontrast`."""
    return np.array(ImageOps.autocontrast(Image.fromarray(picture)))


def _rotate(picture: Pixels, random: Random) -> Pixels:
    return rotated(picture, random.uniform(-45, 45), cv2.INTER_NEAREST)


AUGMENTERS: dict[str, Augmenter] = {
    "contrast": _contrast,
    "brightness": _brightness,
    "saturation_and_hue": _colour,
    "mirror": _mirror,
    "flip": _flip,
    "grey": _grey,
    "autocontrast": _autocontrast,
    "equalise": equalise,
    "rotate": _rotate,
}
