"""Recreates the texture of a real defect in the shape of another mask, so that shape and appearance vary independently. Not in the paper.

It needs no training. H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Pixels
from stage.core.digests import derived_seed
from stage.core.synthesis_params import Perlin, Quilt
from stage.datasets.blending import blended
from stage.datasets.components import dilated
from stage.datasets.pairs import Pair
from stage.synthesis.masked import MaskedPlanner
from stage.synthesis.method import Planner, Rendered
from stage.synthesis.placement import sample_mask
from stage.synthesis.plan import defect_of, one_of
from stage.synthesis.quilting import quilted
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans a mask and a background as STAGE does, and any defect of the type for the appearance."""
    return QuiltPlanner(MaskedPlanner.of(recipe, catalog, source), recipe.quilt).row


def renderer(recipe: Recipe, device: str) -> "QuiltRenderer":  # the signature of every method
    """The renderer, which has nothing to load."""
    return QuiltRenderer(recipe.quilt, recipe.synthesize.perlin)


class QuiltPlanner(NamedTuple):
    """Plans the rows of a category."""

    masked: MaskedPlanner
    params: Quilt

    def row(self, identity: Identity) -> PlanRow:
        """The plan row; the defect that gives the appearance is drawn independently of the one that gives the shape."""
        row = self.masked.row(identity)
        random = np.random.default_rng(derived_seed(row.seed, "appearance"))
        defects, root_seed = self.masked.defects[identity.defect], self.masked.recipe.seed
        real = self.masked.missed.drawn(identity, row.seed) or defect_of(defects, identity, root_seed, use="appearance")
        choices = {**json.loads(row.choices or "{}"), "blend": one_of(self.params.blends, random)}
        return row._replace(source_path=real.image_path, source_sha256=real.image_sha256, choices=json.dumps(choices))


class QuiltRenderer(NamedTuple):
    """Quilts, matches and blends."""

    params: Quilt
    perlin: Perlin

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of the rows, each rendered on its own."""
        return [self._rendered(row, source) for row in rows]

    def _rendered(self, row: PlanRow, source: Source) -> Rendered:
        mask, background = sample_mask(row, source, self.perlin), source.backgrounds[row.background_sha256].image
        blend = json.loads(row.choices)["blend"]
        reach = 0 if blend == "hard" else self.params.reach
        defect = source.photographs[row.source_sha256]
        made = quilted(defect, dilated(mask, reach + 1), self.params, np.random.default_rng(derived_seed(row.seed, "quilt")))
        matched = shifted(made, colour_change(defect, Pair(background, mask), self.params.ring))
        image = blended(matched, background, mask, blend=blend, reach=reach)
        return Rendered(Pair(image, mask), reach=reach, least_contrast=self.params.visible)


def colour_change(defect: Pair, background: Pair, ring: int) -> NDArray[np.float64]:
    """How the median colour (3,) just outside the new mask differs from the one just outside the real defect; 0 if nothing is outside."""
    medians: list[NDArray[np.float64]] = []
    for image, mask in (background, defect):
        around = (dilated(mask, ring) > 0) & (mask == 0)
        if not around.any():
            return np.zeros(3)
        medians.append(np.median(image[around].astype(np.float64), axis=0))
    return medians[0] - medians[1]


def shifted(picture: Pixels, change: NDArray[np.float64]) -> Pixels:
    """Every pixel's colour shifted by `change`, (3,)."""
    return np.clip(np.rint(picture + change), 0, 255).astype(np.uint8)
