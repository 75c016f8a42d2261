"""Plans the mask of a sample by `synthesize.mask_source`, for STAGE, `quilt` and CutPaste under given masks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from stage.core.digests import derived_seed
from stage.datasets.windows import TURNS
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.missed import MissedDefects, with_reason
from stage.synthesis.placer import Placer
from stage.synthesis.plan import DefectSource, background_pool, defect_of, defect_pool, empty_row, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow, placed_by
from stage.synthesis.shapes import NEW, ShapePlanner
from stage.synthesis.source import Source


class MaskedPlanner(NamedTuple):
    """Plans rows with a normal training image and a mask of the type: from the generator's third, of a new shape, or of noise.

    `given`: the row of a sample whose photograph and mask every row takes instead.
    """

    recipe: Recipe
    backgrounds: Backgrounds
    defects: Mapping[str, Sequence[DefectSource | None]]
    placer: Placer
    shapes: ShapePlanner
    missed: MissedDefects
    given: PlanRow | None = None

    @classmethod
    def of(cls, recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Self:
        """The planner of a category."""
        backgrounds = Backgrounds(background_pool(catalog), source, recipe.synthesize)
        defects = defect_pool(catalog)
        missed = MissedDefects(recipe.synthesize.count, recipe.missed, defects)
        return cls(recipe, backgrounds, defects, Placer(source, recipe.synthesize), ShapePlanner(catalog), missed)

    def row(self, identity: Identity) -> PlanRow:
        """The plan row; every choice is drawn from its own seed, so it does not depend on other rows."""
        kind, seed = self.recipe.synthesize.mask_source, row_seed(self.recipe.seed, identity)
        if self.given is not None:
            told = {**identity._asdict(), "sample_id": identity.sample_id, "seed": seed}
            return self.given._replace(**told, prompt="", source_path="", source_sha256="")
        random = np.random.default_rng(seed)
        missed = self.missed.drawn(identity, seed)
        real, drawn = missed or defect_of(self.defects[identity.defect], identity, self.recipe.seed), int(random.integers(TURNS))
        turned = drawn if kind == "augmented" else 0
        background = self.backgrounds.draw(real, turned, random, like=missed is not None)
        row = self._with_mask(empty_row(identity, self.recipe.name, seed, background), real, turned)
        is_like = self.recipe.synthesize.background == "nearest"
        if is_like and not row.mask_path:  # nothing else names the defect whose photograph the background is like
            row = placed_by(row, [real.mask])
        return with_reason(self.placer.placed(row, background.foreground_strategy), missed)

    def _with_mask(self, row: PlanRow, real: DefectSource, turned: int) -> PlanRow:
        kind = self.recipe.synthesize.mask_source
        if kind in NEW:
            return self.shapes.row(row, kind, real, self.defects[row.defect])
        if kind == "perlin":
            return row._replace(mask_kind=kind, mask_seed=derived_seed(row.seed, "mask"))
        return row._replace(mask_path=real.mask_path, mask_sha256=real.mask_sha256, mask_kind=kind, mask_turn=turned)
