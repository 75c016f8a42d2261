"""The same photographs and masks under every method, in the layout of the paper's Fig. 3 and 4: rows of pictures for one page.

The photograph and the mask are a published sample's. Methods without training render on them here, without a verdict, also those that
`methods` does not name.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from PIL import Image

from stage.core.arrays import Pixels
from stage.core.params import Params
from stage.datasets.examples import CATALOG
from stage.datasets.pairs import Pair, decode_image, decode_mask
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog
from stage.release.reader import shard_paths
from stage.report.artefacts import Row, stream_rows
from stage.report.cards import slug
from stage.synthesis.masked import MaskedPlanner
from stage.synthesis.method import METHODS, Planner
from stage.synthesis.methods.cutpaste import MaskPlanner
from stage.synthesis.methods.quilt import QuiltPlanner
from stage.synthesis.plan import defects_of
from stage.synthesis.recipe import Recipe, recipe_of
from stage.synthesis.rows import PlanRow, mixed_masks
from stage.synthesis.source import Source, read_source

ROWS = 2  # photographs of a defect type
TILE = 160  # px; larger pictures are reduced
IN_GIVEN_MASKS: dict[str, Callable[[MaskedPlanner], Planner]] = {
    "quilt": lambda masked: QuiltPlanner(masked, masked.recipe.quilt).row,
    "cutpaste": lambda masked: MaskPlanner(masked, masked.recipe.cutpaste).row,
}


class MethodPicture(NamedTuple):
    """The addresses of a method's picture and of the mask that it drew itself; the latter empty if it used the row's mask."""

    picture: str
    own_mask: str


class InputRow(NamedTuple):
    """A photograph and a mask, and what every method makes of them."""

    defect: str
    photograph: str
    mask: str
    cells: dict[str, MethodPicture]


class SameInputs(NamedTuple):
    """A category's rows; `first` is the method whose published samples gave photographs and masks, `gaps` are samples without a row, and why."""

    category: str
    first: str
    rows: list[InputRow]
    gaps: list[str]


def takes_masks(method: str, params: Params) -> bool:
    """Whether a method fills masks that it is given."""
    return method in ("stage", "quilt") or (method == "cutpaste" and params.cutpaste.variant == "masks")


def shown_methods(params: Params) -> tuple[str, ...]:
    """The methods of a run, then the others that need no training, but for textures from files that nobody asked to read."""
    is_at_hand = params.textures.source in ("procedural", "own")
    more = [name for name, method in METHODS.items() if not method.needs_checkpoint and (is_at_hand or "textures" not in method.parameters)]
    return tuple(dict.fromkeys([*params.methods, *more]))


def shares_mask(method: str, params: Params) -> bool:
    """Whether a method's pictures have the row's mask: that of the first method, if it is of the kind that others can fill."""
    first = first_method(params)
    return method == first or (takes_masks(method, params) and takes_masks(first, params))


def first_method(params: Params) -> str:
    """The method that is shown as it was published: the one that needs training, else one that fills given masks, else the first."""
    return min(params.methods, key=lambda name: (not METHODS[name].needs_checkpoint, not takes_masks(name, params)))


def write_same_inputs(data: Path, category: str, params: Params, *, root: Path, folder: Path) -> SameInputs:
    """Draw the rows of every defect type's first accepted samples; the pictures go under `root / folder`."""
    first = first_method(params)
    source, catalog = read_source(data / "prepare" / category), read_catalog(data / "prepare" / category / CATALOG)
    rows, gaps, drawn = list[InputRow](), list[str](), _drawing(params, data, catalog, source)
    for defect in sorted(defects_of(catalog)):
        for number, published in enumerate(_published(data / "synthesize" / category / first, defect)):
            given = PlanRow(**{name: published[name] for name in PlanRow._fields})
            if gone := _gone(given, source):
                gaps.append(f"{given.sample_id}, whose {gone} is no longer a training image")
                continue
            place = folder / f"{slug(defect)}-{number}"
            (root / place).mkdir(parents=True, exist_ok=True)
            rows.append(_row(published, given, drawn, source, shown_methods(params), root=root, place=place))
    return SameInputs(category, first, rows, gaps)


def _published(folder: Path, defect: str) -> Iterator[Row]:
    wanted = (pc.field("defect") == defect) & (pc.field("verdict") == "accepted") & pc.field("image").is_valid()
    yield from islice(stream_rows(shard_paths(folder), [*PlanRow._fields, "image", "mask"], wanted), ROWS)


def _gone(row: PlanRow, source: Source) -> str:
    """Which of a row's files is missing because an image was withdrawn after the sample was published; empty if none is."""
    masks = {*([row.mask] if row.mask_path else []), *mixed_masks(row.choices)}
    if row.background_sha256 not in source.backgrounds:
        return "photograph"
    return "mask" if masks - source.masks.keys() else ""


DrawSample = Callable[[str, PlanRow], tuple[Pair, bool]]


def _drawing(params: Params, data: Path, catalog: pd.DataFrame, source: Source) -> DrawSample:
    """A function from a method and the row of a published sample to a pair on the same photograph, and whether it has the same mask."""

    def drawn(method: str, given: PlanRow) -> tuple[Pair, bool]:
        recipe = recipe_of(method, given.category, params, catalog=data / "prepare" / given.category, base=None, checkpoint=None)
        is_given = shares_mask(method, params)
        row = (_in_given_mask if is_given else _on_photograph)(recipe, catalog, source, given)
        return METHODS[method].renderer(recipe, "cpu").render([row], source)[0].pair, is_given

    return drawn


def _in_given_mask(recipe: Recipe, catalog: pd.DataFrame, source: Source, given: PlanRow) -> PlanRow:
    masked = MaskedPlanner.of(recipe, catalog, source)._replace(given=given)
    return IN_GIVEN_MASKS[recipe.method](masked)(given.identity._replace(method=recipe.method))


def _on_photograph(recipe: Recipe, catalog: pd.DataFrame, source: Source, given: PlanRow) -> PlanRow:
    """A row planned from a catalog with only this normal photograph and, if the mask is a file, only its defect, so that the same one is pasted."""
    is_kept = catalog.image_sha256 == given.background_sha256
    defects = catalog.defect != GOOD
    if (named := (catalog.mask_path == given.mask_path) & (catalog.mask_sha256 == given.mask_sha256)).any():
        defects &= named | (catalog.defect != given.defect)
    return METHODS[recipe.method].planner(recipe, catalog.loc[is_kept | defects], source)(given.identity._replace(method=recipe.method))


def _row(published: Row, given: PlanRow, drawn: DrawSample, source: Source, methods: Sequence[str], *, root: Path, place: Path) -> InputRow:
    sample = Pair(decode_image(published["image"]["bytes"]), decode_mask(published["mask"]["bytes"]))
    cells: dict[str, MethodPicture] = {}
    photograph = _write(source.backgrounds[given.background_sha256].image, root, place / "photograph.png")
    for method in methods:
        pair, is_given = (sample, True) if method == given.method else drawn(method, given)
        own = "" if is_given else _write(pair.mask * np.uint8(255), root, place / f"{method}-mask.png")
        cells[method] = MethodPicture(_write(pair.image, root, place / f"{method}.png"), own)
    return InputRow(given.defect, photograph, _write(sample.mask * np.uint8(255), root, place / "mask.png"), cells)


def _write(pixels: Pixels, root: Path, path: Path) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    picture.save(root / path, optimize=True)
    return path.as_posix()
