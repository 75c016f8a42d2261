"""Plans the mask of a sample by `synthesize.mask_source`: what STAGE, `quilt` and CutPaste under given masks have in common."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from stage.core.digests import derived_seed
from stage.datasets.windows import TURNS
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.placer import Placer
from stage.synthesis.plan import DefectSource, background_pool, defect_pool, empty_row, one_of, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source


class MaskedPlanner(NamedTuple):
    """Plans rows with a normal training image and a mask of the type from the generator's third, or one of noise."""

    recipe: Recipe
    backgrounds: Backgrounds
    defects: Mapping[str, Sequence[DefectSource | None]]
    placer: Placer

    @classmethod
    def of(cls, recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Self:
        """Of a category."""
        backgrounds = Backgrounds(background_pool(catalog), source, recipe.synthesize)
        return cls(recipe, backgrounds, defect_pool(catalog), Placer(source, recipe.synthesize))

    def row(self, identity: Identity) -> PlanRow:
        """The plan row; every choice is drawn from its own seed, so it does not depend on other rows."""
        kind, seed = self.recipe.synthesize.mask_source, row_seed(self.recipe.seed, identity)
        random = np.random.default_rng(seed)
        real, drawn = one_of(self.defects[identity.defect], random), int(random.integers(TURNS))
        turned = drawn if kind == "augmented" else 0
        background = self.backgrounds.draw(real.mask_sha256, turned, random)
        row = empty_row(identity, self.recipe.name, seed, background)._replace(
            mask_path="" if kind == "perlin" else real.mask_path,
            mask_sha256="" if kind == "perlin" else real.mask_sha256,
            mask_kind=kind,
            mask_turn=turned,
            mask_seed=derived_seed(seed, "mask") if kind == "perlin" else 0,
        )
        return self.placer.placed(row, background.foreground_strategy)
