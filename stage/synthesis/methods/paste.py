"""Pastes real defects on other photographs: cut out by their masks, moved, turned and scaled a little, matched in colour, blended.

Not in the paper. It needs no training, and is the baseline that every other method has to beat.
H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.digests import pixel_digest
from stage.core.errors import CorruptFileError
from stage.core.synthesis_params import Paste
from stage.datasets.blending import blended
from stage.datasets.components import bounding_box, dilated
from stage.datasets.pairs import Pair
from stage.datasets.windows import turn
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.method import Planner, Rendered
from stage.synthesis.placement import part_of, trimmed
from stage.synthesis.plan import DefectSource, backgrounds_of, defects_of, empty_row, one_of, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source

MIRRORED = 4  # of `windows.turn`: mirrored, not turned
Pixels = NDArray[np.uint8]


class Choices(NamedTuple):
    """The choices that only this method makes: rotation in degrees, scale factor, way of blending."""

    rotation: float
    scale: float
    blend: str


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans a real defect with a background that resembles its own photograph."""
    return PastePlanner(recipe, Backgrounds(backgrounds_of(catalog), source, recipe.synthesize), defects_of(catalog)).row


def renderer(recipe: Recipe, device: str) -> "PasteRenderer":  # the signature of every method
    """The renderer, which has nothing to load."""
    return PasteRenderer(recipe.paste)


class PastePlanner:
    """Plans the rows of a category; holds its backgrounds and defects."""

    def __init__(self, recipe: Recipe, backgrounds: Backgrounds, defects: Mapping[str, Sequence[DefectSource]]) -> None:
        self.recipe, self.params = recipe, recipe.paste
        self.backgrounds, self.defects, self.source = backgrounds, defects, backgrounds.source
        self.centre = lru_cache(None)(self._centre)

    def row(self, identity: Identity, chosen: DefectSource | None = None) -> PlanRow:
        """The plan row; every choice is drawn from its own seed, but for the defect where it is given."""
        params, seed = self.params, row_seed(self.recipe.seed, identity)
        random = np.random.default_rng(seed)
        real = chosen or one_of(self.defects[identity.defect], random)
        mirrored = MIRRORED * int(random.integers(2)) if params.mirror else 0
        background = self.backgrounds.draw(real.mask_sha256, mirrored, random)
        choices = Choices(
            rotation=round(float(random.uniform(-params.rotation, params.rotation)), 3),
            scale=round(float(random.uniform(*params.scale)), 4),
            blend=one_of(params.blends, random),
        )
        row = empty_row(identity, self.recipe.name, seed, background)._replace(
            source_path=real.image_path,
            source_sha256=real.image_sha256,
            mask_path=real.mask_path,
            mask_sha256=real.mask_sha256,
            mask_kind="real",
            mask_turn=mirrored,
            choices=json.dumps(choices._asdict()),
            foreground=background.foreground_strategy if params.where == "object" else "none",
        )
        return self._placed(row, random)

    def _placed(self, row: PlanRow, random: np.random.Generator) -> PlanRow:
        """The row with its shift, and with the area and digest of the mask there."""
        photograph = self.source.masks[row.mask_sha256]
        y, x = self._target(row, photograph, random) - _centre_of(turn(photograph.mask, row.mask_turn))
        row = row._replace(mask_shift_y=int(y), mask_shift_x=int(x))
        mask = placed_mask(row, self.source, photograph.mask)
        return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))

    def _target(self, row: PlanRow, photograph: Pair, random: np.random.Generator) -> NDArray[np.int64]:
        """Row and column of the place where the defect's centre goes."""
        if self.params.where == "object":
            places = np.argwhere(part_of(row, self.source))
            return places[random.integers(len(places))]
        own = turn(photograph.mask, row.mask_turn)
        centre = _centre_of(own) if self.params.where == "own" else self.centre(one_of(self.defects[row.defect], random).mask_sha256)
        most = round(self.params.shift * len(own))
        return centre + random.integers(-most, most, 2, endpoint=True)

    def _centre(self, mask_sha256: str) -> NDArray[np.int64]:
        return _centre_of(self.source.masks[mask_sha256].mask)


class PasteRenderer(NamedTuple):
    """Cuts, moves, matches and blends."""

    params: Paste

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of the rows, each rendered on its own."""
        return [self._rendered(row, source) for row in rows]

    def _rendered(self, row: PlanRow, source: Source) -> Rendered:
        defect, background = placed(row, source), source.backgrounds[row.background_sha256].image
        if pixel_digest(defect.mask) != row.mask_digest:
            raise CorruptFileError(
                f"Expected the planned mask {row.mask_digest[:12]} of {row.sample_id}, found {pixel_digest(defect.mask)[:12]}: its "
                "photograph has changed since. Run `dvc repro synthesize`."
            )
        image = pasted(defect, background, row, self.params)
        return Rendered(Pair(image, defect.mask), reach=0 if choices_of(row).blend == "hard" else self.params.reach)


def choices_of(row: PlanRow) -> Choices:
    """The planner's choices for a row."""
    return Choices(**json.loads(row.choices))


def pasted(defect: Pair, background: Pixels, row: PlanRow, params: Paste) -> Pixels:
    """`background` with the defect that `placed` has moved, matched in colour and blended as the row says."""
    matched = colour_matched(defect, background, params.ring)
    return blended(matched, background, defect.mask, blend=choices_of(row).blend, reach=params.reach)


def placed(row: PlanRow, source: Source, other: Pixels | None = None) -> Pair:
    """The photograph of the row's defect and its mask, mirrored, turned and scaled about the defect's centre, and moved.

    `other`: a photograph that takes the defect's place.
    """
    image, mask = source.masks[row.mask_sha256]
    matrix = _motion(row, turn(mask, row.mask_turn))
    moved = cv2.warpAffine(
        turn(image if other is None else other, row.mask_turn),
        matrix,
        mask.shape[::-1],
        flags=cv2.INTER_CUBIC,  # a linear one would take a fifth of the defect's grain
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return Pair(moved, placed_mask(row, source, mask))


def placed_mask(row: PlanRow, source: Source, mask: Pixels) -> Pixels:
    """The mask of the row's photograph as `placed` moves it: never empty, and trimmed to the background's object if the row names one."""
    turned = turn(mask, row.mask_turn)
    share = cv2.warpAffine(turned.astype(np.float32), _motion(row, turned), turned.shape[::-1], flags=cv2.INTER_LINEAR)
    label = (share >= min(0.5, float(share.max()))).astype(np.uint8)
    return label if row.foreground == "none" else trimmed(label, part_of(row, source))


def _motion(row: PlanRow, mask: Pixels) -> NDArray[np.float64]:
    """The affine matrix (2, 3) of a row's rotation, scale and move, for a mask that is mirrored already."""
    choices = choices_of(row)
    y, x = _centre_of(mask)
    matrix = np.asarray(cv2.getRotationMatrix2D((float(x), float(y)), choices.rotation, choices.scale), np.float64)
    matrix[:, 2] += _kept_inside(mask, matrix, row.mask_shift_y, row.mask_shift_x)
    return matrix


def colour_matched(defect: Pair, background: Pixels, ring: int) -> Pixels:
    """`defect.image` with its colour shifted by the median difference of the photographs in a ring of `ring` px around the mask.

    The median, because an edge of the part that lies a pixel off differs by more than the light does.
    """
    around = (dilated(defect.mask, ring) > 0) & (defect.mask == 0)
    if not around.any():
        return defect.image
    difference = np.median(background[around].astype(np.float64) - defect.image[around], axis=0)
    return np.clip(np.rint(defect.image + difference), 0, 255).astype(np.uint8)


def _centre_of(mask: Pixels) -> NDArray[np.int64]:
    """Row and column of the middle of a mask's bounding box."""
    rows, columns = bounding_box(mask)
    return np.array([(rows.start + rows.stop - 1) // 2, (columns.start + columns.stop - 1) // 2])


def _kept_inside(mask: Pixels, matrix: NDArray[np.float64], y: int, x: int) -> NDArray[np.float64]:
    """The move (x, y), shortened where the turned and scaled bounding box would leave the image."""
    rows, columns = bounding_box(mask)
    corners = np.array([[c, r, 1] for r in (rows.start, rows.stop - 1) for c in (columns.start, columns.stop - 1)])
    reached = corners @ matrix.T
    lowest, highest = -reached.min(0), np.array(mask.shape[::-1]) - 1 - reached.max(0)
    return np.clip([x, y], np.minimum(lowest, highest), np.maximum(lowest, highest))
