"""The plan: one row per sample to be made. A sample is a pure function of its row, the checkpoint and the parameters."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from stage.augment import TURNS
from stage.params import Prompts, Synthesize
from stage.prompts import prompts
from stage.seeds import derived_seed
from stage.synthesis.placement import mask_digest, mask_of, part_of, shift_onto, turned
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source

__all__ = ["PlanRow", "batches", "make_plan"]
FIRST_ATTEMPT = 0


def make_plan(
    catalog: pd.DataFrame, params: Synthesize, templates: Prompts, *, source: Source, settings: str, root_seed: int
) -> list[PlanRow]:
    """`count` rows per defect type of a category's catalog, sorted by type and ordinal (IV-A).

    Each pairs a random normal training image with a mask of that type from the generator's third, or with one of noise.
    `source` holds their pixels, from which the mask finds its place.
    """
    training = catalog.loc[(catalog.status == "accepted") & (catalog.split == "train")]
    planner = _Planner(training.loc[training.defect == "good"], source, params, templates, settings, root_seed)
    defective = training.loc[training.defect != "good"].groupby("defect", sort=True)
    return [planner.row(str(defect), masks, k) for defect, masks in defective for k in range(params.count)]


class _Planner(NamedTuple):
    """What all rows of a category share."""

    backgrounds: pd.DataFrame
    source: Source
    params: Synthesize
    templates: Prompts
    settings: str
    root_seed: int

    def row(self, defect: str, masks: pd.DataFrame, ordinal: int) -> PlanRow:
        """Every choice is drawn from the row's own seed, so that no other row has a say in it."""
        category = str(self.backgrounds.category.iloc[0])
        seed = derived_seed(self.root_seed, category, defect, ordinal, FIRST_ATTEMPT)
        random = np.random.default_rng(seed)
        background, mask = (table.iloc[int(random.integers(len(table)))] for table in (self.backgrounds, masks))
        kind = self.params.mask_source
        row = PlanRow(
            sample_id=f"{category}/{defect}/{ordinal:06d}",
            ordinal=ordinal,
            attempt=FIRST_ATTEMPT,
            seed=seed,
            settings=self.settings,
            method="stage",
            category=category,
            defect=defect,
            prompt=prompts(self.templates, category, defect)[0],
            background_path=background.image_path,
            background_sha256=background.image_sha256,
            mask_path="" if kind == "perlin" else mask.mask_path,
            mask_sha256="" if kind == "perlin" else mask.mask_sha256,
            mask_kind=kind,
            mask_turn=int(random.integers(TURNS)) if kind == "augmented" else 0,
            mask_shift_y=0,
            mask_shift_x=0,
            mask_seed=derived_seed(seed, "mask") if kind == "perlin" else 0,
            mask_area=0,
            mask_digest="",
            foreground=background.foreground_strategy if self.params.placement == "on_object" else "none",
            licence=background.licence,
        )
        return self._measured(self._placed(row))

    def _placed(self, row: PlanRow) -> PlanRow:
        if row.foreground == "none" or row.mask_kind == "perlin":
            return row
        random = np.random.default_rng(derived_seed(row.seed, "place"))
        shift = shift_onto(turned(row, self.source), part_of(row, self.source), random)
        return row._replace(mask_shift_y=shift.y, mask_shift_x=shift.x)

    def _measured(self, row: PlanRow) -> PlanRow:
        mask = mask_of(row, self.source, self.params.perlin)
        return row._replace(mask_area=int(mask.sum()), mask_digest=mask_digest(mask))


def batches(plan: list[PlanRow], size: int) -> Iterator[list[PlanRow]]:
    """Rows that share a network call: one defect type, ordinals k * size ... ; at most `size`, slot = ordinal mod size."""
    for _, rows in groupby(plan, key=lambda row: (row.defect, row.ordinal // size)):
        yield list(rows)
