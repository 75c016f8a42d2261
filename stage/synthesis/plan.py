"""The plan: one row per sample to be made. A sample is a pure function of its row, the checkpoint and the parameters."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from stage.params import Prompts, Synthesize
from stage.prompts import prompts
from stage.seeds import derived_seed

FIRST_ATTEMPT = 0


class PlanRow(NamedTuple):
    """One sample to be made. Paths are relative to the data set's root; `mask_turn` is 0 ... 7 (`augment.turn`)."""

    sample_id: str
    ordinal: int
    attempt: int
    seed: int
    settings: str
    method: str
    category: str
    defect: str
    prompt: str
    background_path: str
    background_sha256: str
    mask_path: str
    mask_sha256: str
    mask_turn: int
    licence: str


def make_plan(catalog: pd.DataFrame, params: Synthesize, templates: Prompts, *, settings: str, root_seed: int) -> list[PlanRow]:
    """`count` rows per defect type of a category's catalog, sorted by type and ordinal (METHOD 7).

    Each pairs a random normal training image with a mask of that type from the generator's third.
    """
    training = catalog[(catalog.status == "accepted") & (catalog.split == "train")]
    backgrounds = training[training.defect == "good"]
    rows: list[PlanRow] = []
    for defect, masks in training[training.defect != "good"].groupby("defect", sort=True):
        rows += [_row(str(defect), k, backgrounds, masks, params, templates, settings, root_seed) for k in range(params.count)]
    return rows


def _row(
    defect: str,
    ordinal: int,
    backgrounds: pd.DataFrame,
    masks: pd.DataFrame,
    params: Synthesize,
    templates: Prompts,
    settings: str,
    root_seed: int,
) -> PlanRow:
    category = str(backgrounds.category.iloc[0])
    seed = derived_seed(root_seed, category, defect, ordinal, FIRST_ATTEMPT)
    random = np.random.default_rng(seed)
    background, mask = (table.iloc[int(random.integers(len(table)))] for table in (backgrounds, masks))
    return PlanRow(
        sample_id=f"{category}/{defect}/{ordinal:06d}",
        ordinal=ordinal,
        attempt=FIRST_ATTEMPT,
        seed=seed,
        settings=settings,
        method="stage",
        category=category,
        defect=defect,
        prompt=prompts(templates, category, defect)[0],
        background_path=background.image_path,
        background_sha256=background.image_sha256,
        mask_path=mask.mask_path,
        mask_sha256=mask.mask_sha256,
        mask_turn=int(random.integers(8)) if params.mask_source == "augmented" else 0,
        licence=background.licence,
    )


def batches(plan: list[PlanRow], size: int) -> Iterator[list[PlanRow]]:
    """Rows that share a network call: one defect type, ordinals k * size ... ; at most `size`, slot = ordinal mod size."""
    for _, rows in groupby(plan, key=lambda row: (row.defect, row.ordinal // size)):
        yield list(rows)
