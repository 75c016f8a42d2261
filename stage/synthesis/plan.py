"""The plan: one row per sample to be made. A sample is a pure function of its row, the checkpoint and the parameters."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from stage.core.digests import derived_seed
from stage.core.params import Prompts, Synthesize
from stage.datasets.windows import TURNS
from stage.model.prompts import prompts
from stage.synthesis.placer import Placer
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source

FIRST_ATTEMPT = 0


def padded_plan(
    catalog: pd.DataFrame, params: Synthesize, templates: Prompts, *, source: Source, settings: str, root_seed: int
) -> Iterator[PlanRow]:
    """`count` rows per defect type of a category's catalog, sorted by type and ordinal (IV-A), and on to a whole batch of each.

    Each pairs a random normal training image with a mask of that type from the generator's third, or with one of noise.
    A network call makes a whole batch in any case, and what is in it must not depend on how many samples are asked for.
    `source` holds their pixels, from which the mask finds its place.
    """
    training = catalog.loc[(catalog.status == "accepted") & (catalog.split == "train")]
    backgrounds = [_Background(*row) for row in training.loc[training.defect == "good", _Background.columns()].itertuples(index=False)]
    planner = _Planner(backgrounds, Placer(source, params.perlin), params, settings, root_seed)
    defective = training.loc[training.defect != "good"].groupby("defect", sort=True)
    count = -(-params.count // params.batch) * params.batch
    for defect, masks in defective:
        prompt, _ = prompts(templates, backgrounds[0].category, str(defect))
        names = list(zip(masks.mask_path, masks.mask_sha256, strict=True))
        yield from (planner.row(str(defect), prompt, names, k) for k in range(count))


class _Background(NamedTuple):
    """What a row takes over from a photograph's entry in the catalog."""

    category: str
    image_path: str
    image_sha256: str
    licence: str
    foreground_strategy: str

    @classmethod
    def columns(cls) -> list[str]:
        """Their names in the catalog."""
        return list(cls._fields)


class _Planner(NamedTuple):
    """What all rows of a category share."""

    backgrounds: list[_Background]
    placer: Placer
    params: Synthesize
    settings: str
    root_seed: int

    def row(self, defect: str, prompt: str, masks: list[tuple[str, str]], ordinal: int) -> PlanRow:
        """Every choice is drawn from the row's own seed, so that no other row has a say in it."""
        category, kind = self.backgrounds[0].category, self.params.mask_source
        seed = derived_seed(self.root_seed, category, defect, ordinal, FIRST_ATTEMPT)
        random = np.random.default_rng(seed)
        background = self.backgrounds[int(random.integers(len(self.backgrounds)))]
        mask_path, mask_sha256 = masks[int(random.integers(len(masks)))]
        row = PlanRow(
            sample_id=f"{category}/{defect}/{ordinal:06d}",
            ordinal=ordinal,
            attempt=FIRST_ATTEMPT,
            seed=seed,
            settings=self.settings,
            method="stage",
            category=category,
            defect=defect,
            prompt=prompt,
            background_path=background.image_path,
            background_sha256=background.image_sha256,
            mask_path="" if kind == "perlin" else mask_path,
            mask_sha256="" if kind == "perlin" else mask_sha256,
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
        return self.placer.placed(row)
