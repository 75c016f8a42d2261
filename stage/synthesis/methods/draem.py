"""DRAEM (Zavrtanik, Kristan, Skocaj, ICCV 2021): an augmented texture blended into a normal photograph inside a Perlin mask.

Its detector is not here, only the pairs that train it. Unlike its loader, every sample is an anomaly, and no photograph is turned.
H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Mask, Pixels
from stage.core.synthesis_params import Draem, Perlin
from stage.synthesis.augmenters import AUGMENTERS, augmented
from stage.synthesis.method import Planner
from stage.synthesis.perlin import perlin_mask
from stage.synthesis.recipe import Recipe
from stage.synthesis.source import Source
from stage.synthesis.texture_fit import stretched
from stage.synthesis.textured import DrawnMask, TexturePlanner, TextureRenderer, as_grey_as, first_on

PUBLISHED = Perlin(exponents=(0, 5), threshold=0.5, max_components=10_000)  # as in the released code, which has no limit of components


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans any normal photograph with any texture of the bank."""
    return TexturePlanner(recipe, catalog, source, DraemRule(recipe.draem, recipe.synthesize.perlin)).row


def renderer(recipe: Recipe, device: str) -> TextureRenderer:  # the signature of every method
    """The renderer, which has nothing to load."""
    return TextureRenderer(recipe, DraemRule(recipe.draem, recipe.synthesize.perlin))


class DraemRule(NamedTuple):
    """Presets: `paper` has the published noise anywhere in the image, `quality` the noise of `synthesize.perlin` on the object.

    With `quality`, a texture on a grey photograph is grey.
    """

    params: Draem
    perlin: Perlin

    @property
    def augmenters(self) -> tuple[Sequence[str], int]:
        """Three of ten in the paper."""
        return [*AUGMENTERS], self.params.augmenters

    @property
    def on_object(self) -> bool:
        """The paper knows no object."""
        return self.params.preset == "quality"

    @property
    def visible(self) -> float:
        """The paper keeps whatever comes out."""
        return self.params.visible

    def mask(self, part: NDArray[np.uint8], random: np.random.Generator) -> DrawnMask:
        """The first draw that is not empty; the released loader calls a sample with an empty mask normal."""
        perlin = self.perlin if self.on_object else PUBLISHED

        def draw(height: int, width: int) -> tuple[Mask, str]:
            return perlin_mask(height, width, perlin, random), "single"

        return first_on(part, draw, random, fill=self.on_object, most=perlin.max_components)

    def opacity(self, random: np.random.Generator) -> float:
        """Uniform; the released code's beta is one minus the opacity, the paper's beta is the opacity."""
        return float(random.uniform(*self.params.opacity))

    def dressed(self, picture: Pixels, background: Pixels, names: Sequence[str], random: np.random.Generator) -> Pixels:
        """Resized without regard to its aspect, then augmented."""
        texture = augmented(stretched(picture, *background.shape[:2]), names, random)
        return as_grey_as(background, texture) if self.on_object else texture
