"""What DRAEM and GLASS share: a texture of the bank, augmented, over a random normal photograph, inside a mask of Perlin noise.

H, W image size. Images are (H, W, 3) uint8, masks and objects (H, W) uint8 in {0, 1}; 1 = defect, 1 = object.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from stage.core.arrays import Mask, Pixels, Random
from stage.core.digests import derived_seed
from stage.datasets.blending import mixed
from stage.datasets.components import bounding_box, components
from stage.datasets.foreground import LUMA
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.synthesis.augmenters import drawn
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.method import Rendered
from stage.synthesis.missed import MissedDefects, with_reason
from stage.synthesis.placement import TRIES, check_mask, spot
from stage.synthesis.plan import background_pool, defect_pool, empty_row, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source
from stage.synthesis.texture_folder import Texture
from stage.synthesis.textures import bank_of

PARTS = 512  # objects that a planner keeps


class DrawnMask(NamedTuple):
    """A mask, how it came about, and the number of draws until one met the object."""

    mask: Mask
    how: str
    tries: int


class Rule(Protocol):
    """What differs between the methods."""

    @property
    def augmenters(self) -> tuple[Sequence[str], int]:
        """The names of its augmenters, and how many are drawn."""
        ...

    @property
    def on_object(self) -> bool:
        """Whether defects lie on the object alone."""
        ...

    @property
    def visible(self) -> float:
        """The least mean difference to the photograph inside the mask, of 255."""
        ...

    def mask(self, part: Mask, random: Random) -> DrawnMask:
        """A mask on an object, never empty."""
        ...

    def opacity(self, random: Random) -> float:
        """The texture's opacity, in [0, 1]."""
        ...

    def dressed(self, picture: Pixels, background: Pixels, names: Sequence[str], random: Random) -> Pixels:
        """A picture as large as the background, after these augmenters."""
        ...


class TexturePlanner:
    """Plans the rows of a category."""

    def __init__(self, recipe: Recipe, catalog: pd.DataFrame, source: Source, rule: Rule) -> None:
        self.recipe, self.rule = recipe, rule
        self.backgrounds = Backgrounds(background_pool(catalog), source, recipe.synthesize)
        self.missed = MissedDefects(recipe.synthesize.count, recipe.missed, defect_pool(catalog))
        self.bank = bank_of(recipe.textures, recipe.catalog)
        self.part = lru_cache(PARTS)(source.foregrounds.__getitem__)

    def row(self, identity: Identity) -> PlanRow:
        """The plan row; every choice is drawn from its own seed. The defect type is nominal: it decides only the photograph of a row for a missed defect."""
        seed = row_seed(self.recipe.seed, identity)
        random = np.random.default_rng(seed)
        missed = self.missed.drawn(identity, seed)
        background = self.backgrounds.background_for(missed, random)
        texture, (names, count) = self.bank.draw(random), self.rule.augmenters
        where = background.foreground_strategy if self.rule.on_object else "none"
        part = self.part(background.image_sha256)
        made = self.rule.mask(np.ones_like(part) if where == "none" else part, np.random.default_rng(derived_seed(seed, "mask")))
        choices: dict[str, Any] = {"opacity": round(self.rule.opacity(random), 4), "augmenters": drawn(names, count, random)}
        choices |= {"mask": made.how, "tries": made.tries}
        choices |= {f"texture_{name}": value for name, value in texture._asdict().items()}
        licence = f"{background.licence} AND {self.recipe.textures.licence}" if texture.path and not self._is_ours() else background.licence
        row = empty_row(identity, self.recipe.name, seed, background)._replace(
            mask_kind="perlin",
            mask_seed=derived_seed(seed, "mask"),
            mask_area=int(made.mask.sum()),
            mask_digest=pixel_digest(made.mask),
            choices=json.dumps(choices),
            foreground=where,
            licence=licence,
        )
        return with_reason(row, missed)

    def _is_ours(self) -> bool:
        """Whether textures are photographs of the data set, whose licence every row has already."""
        return self.recipe.textures.source in ("own", "others")


class TextureRenderer:
    """Draws the mask again, and blends."""

    def __init__(self, recipe: Recipe, rule: Rule) -> None:
        self.rule, self.bank = rule, bank_of(recipe.textures, recipe.catalog)

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of the rows, each rendered on its own."""
        return [self._rendered(row, source) for row in rows]

    def _rendered(self, row: PlanRow, source: Source) -> Rendered:
        background, choices = source.backgrounds[row.background_sha256].image, json.loads(row.choices)
        whole = np.ones(background.shape[:2], np.uint8)
        part = whole if row.foreground == "none" else source.foregrounds[row.background_sha256]
        mask = self.rule.mask(part, np.random.default_rng(row.mask_seed)).mask
        check_mask(mask, row)
        texture = Texture(*(choices[f"texture_{name}"] for name in Texture._fields))
        random = np.random.default_rng(derived_seed(row.seed, "texture"))
        picture = self.bank.picture(texture, *mask.shape)
        anomaly = self.rule.dressed(picture, background, choices["augmenters"], random)
        return Rendered(Pair(mixed(anomaly, background, mask, choices["opacity"]), mask), least_contrast=self.rule.visible)


def first_on(
    part: Mask, draw: Callable[[int, int], tuple[Mask, str]], random: Random, *, fill: bool, most: int, least: int = 1
) -> DrawnMask:
    """The first of 50 masks with at least `least` px in at most `most` parts on an object, cut to the object; else a round spot on it.

    `draw` makes a mask of a height and width. With `fill` the noise fills the object's bounding box; otherwise the image, as in the papers,
    where it may miss a small object. Raises ValueError for an object without pixels, for which GLASS's own code never ends.
    """
    if not part.any():
        raise ValueError("Expected an object to draw a mask on, found one without pixels. Look at the foregrounds of the category.")
    box = bounding_box(part) if fill else (slice(None), slice(None))
    for tries in range(1, TRIES + 1):
        mask = np.zeros_like(part)
        drawn_mask, how = draw(*part[box].shape)
        mask[box] = drawn_mask * part[box]
        if np.count_nonzero(mask) >= least and components(mask[box]).max() <= most:
            return DrawnMask(mask, how, tries)
    return DrawnMask(spot(part, random), "spot", TRIES)


def as_grey_as(background: Pixels, picture: Pixels) -> Pixels:
    """The picture in grey if the photograph is grey, where colour would give a synthetic defect away."""
    if (background == background[..., :1]).all():
        grey = np.rint(picture @ LUMA).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return picture
