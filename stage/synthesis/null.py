"""Pastes of nothing, normal photographs pasted on normal ones under defect masks, and of real defects in the same way.

H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from stage.core.arrays import Pixels
from stage.core.synthesis_params import Paste
from stage.datasets.blending import paste_back
from stage.datasets.windows import TURNS, turn
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.methods.paste import PastePlanner, pasted
from stage.synthesis.plan import backgrounds_of, defects_of, one_of
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source
from stage.synthesis.transplant import placed

Kind = Literal["real", "other", "like", "turned"]
NORMAL: tuple[Kind, ...] = ("other", "like", "turned")
KINDS: tuple[Kind, ...] = ("real", *NORMAL)  # of the pastes that one identity gives
MATCHED: tuple[Kind, ...] = ("other", "like")  # pasted with colours matched to the background
# As in params.yaml, but fixed: otherwise another way of pasting would be judged by another measure.
NEIGHBOURS = 5
MOTION = Paste(
    mirror=True,
    rotation=8.0,
    scale=(0.9, 1.1),
    shift=0.0167,
    where="own",
    blends=("hard", "outward", "poisson"),
    reach=2,
    ring=3,
)


def nothing_of(recipe: Recipe) -> tuple[Kind, ...]:
    """The kinds of nothing that a method's way of pasting could make.

    `paste` and `quilt` match colours, and so does STAGE if it starts from a defect. DRAEM and GLASS do not, and are judged more strictly
    than their blending asks for: what passes teaches more (docs/experiments.md).
    """
    is_matched = recipe.method in ("paste", "quilt") or (recipe.method == "stage" and recipe.synthesize.start == "defect")
    return MATCHED if is_matched else NORMAL


class Pasted(NamedTuple):
    """One paste: its kind, defect type, photographs (SHA-256) it comes from and lies on, and the pictures."""

    kind: Kind
    defect: str
    photograph: str
    onto: str
    image: Pixels
    background: Pixels
    mask: Pixels


class Paster:
    """Draws the pastes of a category from its training part."""

    def __init__(self, recipe: Recipe, catalog: pd.DataFrame, source: Source) -> None:
        fitting = recipe.synthesize.model_copy(update={"background": "nearest", "neighbours": NEIGHBOURS, "placement": "as_is"})
        fixed = recipe.model_copy(update={"paste": MOTION, "synthesize": fitting, "missed": ()})
        self.backgrounds = Backgrounds(backgrounds_of(catalog), source._replace(recalled={}), fitting)
        self.defects = defects_of(catalog)
        self.planner = PastePlanner(fixed, self.backgrounds, self.defects)
        self.source = source
        self.normals = [one.image_sha256 for one in self.backgrounds.normals]

    def drawn(self, draw: int, least: int) -> list[Identity]:
        """The real defects of a draw: of each type as many as it has photographs, and at least `least`. Another draw has others."""
        named = ((defect, number) for defect, real in self.defects.items() for number in range(max(least, len(real))))
        return [Identity("verdict", self.planner.recipe.category, defect, number, draw) for defect, number in named]

    def pastes(self, identity: Identity) -> Iterator[Pasted]:
        """One of `drawn`: a real defect, and three times nothing under its mask."""
        real = self.defects[identity.defect]
        return self._pastes(self.planner.row(identity, real[identity.ordinal % len(real)]))

    def _pastes(self, row: PlanRow) -> Iterator[Pasted]:
        """A real defect; under its mask any other normal photograph, and one like the background; and one pasted without matching its colours."""
        random = np.random.default_rng(row.seed + 1)  # the row's own draws come from its seed
        own = row.background_sha256
        background = self.source.backgrounds[own].image
        chosen: dict[Kind, str] = {"real": row.source_sha256, "other": self._other(own, random), "like": self._like(own, random)}
        for kind, photograph in chosen.items():
            moved = placed(row, self.source, None if kind == "real" else self.source.backgrounds[photograph].image)
            yield Pasted(kind, row.defect, photograph, own, pasted(moved, background, row, MOTION), background, moved.mask)
        yield self._turned(row, random)

    def _turned(self, row: PlanRow, random: np.random.Generator) -> Pasted:
        """Any normal photograph pasted hard on any other, in its own colours, under the mask in any of eight positions."""
        onto = self.normals[random.integers(len(self.normals))]
        photograph = self._other(onto, random)
        mask = turn(self.source.masks[row.mask].mask, int(random.integers(TURNS)))
        background = self.source.backgrounds[onto].image
        image = paste_back(self.source.backgrounds[photograph].image, background, mask)
        return Pasted("turned", row.defect, photograph, onto, image, background, mask)

    def _other(self, own: str, random: np.random.Generator) -> str:
        """Any normal photograph but this one, where there is another."""
        step = 1 + int(random.integers(max(1, len(self.normals) - 1)))
        return self.normals[(self.normals.index(own) + step) % len(self.normals)]

    def _like(self, own: str, random: np.random.Generator) -> str:
        """One of the normal photographs that are most like this one."""
        if len(self.normals) == 1:
            return own
        distances = self.backgrounds.likeness.others(self.normals.index(own))
        nearest = distances.argsort(kind="stable")[: min(NEIGHBOURS, len(self.normals) - 1)]
        return self.normals[one_of(nearest.tolist(), random)]
