"""CutPaste (Li, Sohn, Yoon, Pfister, CVPR 2021): a part of a normal photograph, its colours jittered, pasted elsewhere in the same photograph.

Only the paper's pairs, with masks, which the paper does not need, and without its augmentation of whole images. Written from the paper.
H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from stage.core.arrays import Box, Mask, Pixels
from stage.core.digests import derived_seed
from stage.core.synthesis_params import CutPaste, Perlin
from stage.datasets.components import bounding_box
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.colour_jitter import jittered
from stage.synthesis.cuts import Cut, drawn_cut, drawn_shift
from stage.synthesis.masked import MaskedPlanner
from stage.synthesis.method import Planner, Rendered
from stage.synthesis.missed import MissedDefects, with_reason
from stage.synthesis.placement import check_mask, sample_mask
from stage.synthesis.plan import background_pool, defect_pool, empty_row, one_of, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source

PARTS = 512  # objects that a planner keeps


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans any normal photograph with a cut; with `variant: masks`, masks as STAGE plans them, and the place that fills them."""
    if recipe.cutpaste.variant == "masks":
        return MaskPlanner(MaskedPlanner.of(recipe, catalog, source), recipe.cutpaste).row
    return CutPlanner(recipe, catalog, source).row


def renderer(recipe: Recipe, device: str) -> "CutPasteRenderer":  # the signature of every method
    """The renderer, which has nothing to load."""
    return CutPasteRenderer(recipe.cutpaste, recipe.synthesize.perlin)


class CutPlanner:
    """Plans patches and scars. The defect type is nominal: it decides only the photograph of a row that is planned for a missed defect."""

    def __init__(self, recipe: Recipe, catalog: pd.DataFrame, source: Source) -> None:
        self.recipe, self.backgrounds = recipe, Backgrounds(background_pool(catalog), source, recipe.synthesize)
        self.missed = MissedDefects(recipe.synthesize.count, recipe.missed, defect_pool(catalog))
        self.part = lru_cache(PARTS)(source.foregrounds.__getitem__)

    def row(self, identity: Identity) -> PlanRow:
        """The plan row; every choice is drawn from its own seed."""
        seed, params = row_seed(self.recipe.seed, identity), self.recipe.cutpaste
        random = np.random.default_rng(seed)
        missed = self.missed.drawn(identity, seed)
        background = self.backgrounds.background_for(missed, random)
        part = self.part(background.image_sha256)
        variant = one_of(("patch", "scar"), random) if params.variant == "union" else params.variant
        cut, tries = drawn_cut(variant, part, params, random)
        mask = cut.mask(*part.shape)
        row = empty_row(identity, self.recipe.name, seed, background)._replace(
            mask_kind=variant,
            mask_area=int(mask.sum()),
            mask_digest=pixel_digest(mask),
            choices=json.dumps({**cut._asdict(), "tries": tries}),
        )
        return with_reason(row, missed)


class MaskPlanner(NamedTuple):
    """Plans where the pixels for a given mask come from."""

    masked: MaskedPlanner
    params: CutPaste

    def row(self, identity: Identity) -> PlanRow:
        """The plan row: the mask as STAGE plans it, and a shift that keeps it inside the image."""
        row = self.masked.row(identity)
        mask = sample_mask(row, self.masked.placer.source, self.masked.recipe.synthesize.perlin)
        y, x = drawn_shift(mask, self.params.overlap, np.random.default_rng(derived_seed(row.seed, "shift")))
        return row._replace(choices=json.dumps({**json.loads(row.choices or "{}"), "shift_y": y, "shift_x": x}))


class CutPasteRenderer(NamedTuple):
    """Cuts, jitters and pastes."""

    params: CutPaste
    perlin: Perlin

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of the rows, each rendered on its own."""
        return [self._rendered(row, source) for row in rows]

    def _rendered(self, row: PlanRow, source: Source) -> Rendered:
        background, choices = source.backgrounds[row.background_sha256].image, json.loads(row.choices)
        if row.mask_kind in ("patch", "scar"):
            cut = Cut(**{name: choices[name] for name in Cut._fields})
            mask, box, piece = cut.mask(*background.shape[:2]), cut.box, cut.piece(background)
            check_mask(mask, row)
        else:
            mask = sample_mask(row, source, self.perlin)
            box = bounding_box(mask)
            piece = np.roll(background, (-choices["shift_y"], -choices["shift_x"]), axis=(0, 1))[box]
        changed = jittered(piece, self.params.jitter, np.random.default_rng(derived_seed(row.seed, "jitter")))
        return Rendered(Pair(pasted(changed, background, mask, box), mask), least_contrast=self.params.visible)


def pasted(piece: Pixels, background: Pixels, mask: Mask, box: Box) -> Pixels:
    """The photograph with a piece as large as the mask's box inside the mask."""
    image = background.copy()
    image[box] = cv2.copyTo(piece, mask[box], image[box].copy())
    return image
