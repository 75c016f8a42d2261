"""Pictures beside the fidelity figures: the profile across the border, and defects in rows at one scale, real ones first."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from stage.datasets.components import bounding_box, components, largest_component
from stage.datasets.pairs import decode_mask
from stage.datasets.windows import first_pixel
from stage.release.fidelity import PROFILE, REAL
from stage.release.reader import shard_paths
from stage.report.artefacts import Row, catalog, decoded_picture, stream_rows
from stage.report.cards import slug
from stage.report.charts import draw_profile
from stage.report.sheets import MARK, Panel, strip
from stage.segmentation.results import rows_where

COLUMNS = 8  # defects in a row
TILE = 144  # px of a defect's picture
SIDES = (24, 36, 48, 72, 144)  # px of what a picture shows: TILE is a multiple of each, so that enlarged pixels are squares of one size
ROOM = 1.5  # times the median real defect


class StripPair(NamedTuple):
    """Defects of one origin side by side: their picture, and the same with their outlines; addresses relative to the page."""

    made_by: str
    plain: str
    outlined: str
    shown: int


class TypePictures(NamedTuple):
    """The address of a type's profile, the rows of its sheet, and the side in px of what each picture shows."""

    defect: str
    profile: str
    strips: list[StripPair]
    side: int


def write_pictures(
    data: Path, table: pd.DataFrame, category: str, methods: Sequence[str], *, root: Path, folder: Path
) -> list[TypePictures]:
    """Draw each type's profile, and its first real defects above the first accepted samples of each method, under `root / folder`."""
    own = rows_where(table, category=category)
    return [_type_pictures(data, rows_where(own, defect=defect), category, methods, root, folder) for defect in own.defect.unique()]


def _type_pictures(data: Path, table: pd.DataFrame, category: str, methods: Sequence[str], root: Path, folder: Path) -> TypePictures:
    defect = str(table.defect.iloc[0])
    place = folder / slug(defect)
    (root / place).mkdir(parents=True, exist_ok=True)
    real = [*islice(_rows([catalog(data, category)], (pc.field("defect") == defect) & (pc.field("split") == "train")), COLUMNS)]
    side = _side(real)
    made: dict[str, Iterable[Row]] = {REAL: real}
    for method in methods:
        wanted = (pc.field("defect") == defect) & (pc.field("verdict") == "accepted")
        made[method] = islice(_rows(shard_paths(data / "synthesize" / category / method), wanted), COLUMNS)
    strips = [found for name, rows in made.items() if (found := _write_strips(name, rows, side, root, place))]
    draw_profile(root / place / "profile.svg", _profiles(table))
    return TypePictures(defect, (place / "profile.svg").as_posix(), strips, side)


def outlined(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture, RGB, with a line of 1 px around the nonzero pixels of the `L` mask of its size."""
    line = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(3)), mask)
    drawn = picture.copy()
    drawn.paste(MARK, mask=line)
    return drawn


def _rows(paths: Sequence[Path], where: pc.Expression) -> Iterator[Row]:
    return stream_rows(paths, ["image", "mask"], where & pc.field("image").is_valid() & pc.field("mask").is_valid())


def _write_strips(made_by: str, rows: Iterable[Row], side: int, root: Path, place: Path) -> StripPair | None:
    crops = [_crop(row, side) for row in rows]
    if not crops:
        return None
    plain, marked = (
        [Panel("", one) for one in some] for some in zip(*((image, outlined(image, mask)) for image, mask in crops), strict=True)
    )
    for name, panels in (("", plain), ("-outlined", marked)):
        strip(panels, TILE).save(root / place / f"{made_by}{name}.webp", lossless=side < TILE, quality=90)
    plain_place, outlined_place = ((place / f"{made_by}{name}.webp").as_posix() for name in ("", "-outlined"))
    return StripPair(made_by, plain_place, outlined_place, len(crops))


def _crop(row: Row, side: int) -> tuple[Image.Image, Image.Image]:
    """The largest defect and its mask, `side` px of the photograph as TILE px."""
    image, mask = decoded_picture(row["image"]), decode_mask(row["mask"]["bytes"])
    y, x = bounding_box(largest_defect(mask))
    left, top = (first_pixel(one.start, one.stop, min(side, length), length) for one, length in ((x, image.width), (y, image.height)))
    box = (left, top, min(left + side, image.width), min(top + side, image.height))
    outline = Image.fromarray(mask * np.uint8(255)).crop(box).resize((TILE, TILE), Image.Resampling.NEAREST)
    return image.crop(box).resize((TILE, TILE), _resampling(side)), outline


def _resampling(side: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if side <= TILE else Image.Resampling.LANCZOS


def _side(real: Sequence[Row]) -> int:
    """The side in px that holds a real defect of median size and some of its surroundings; at most the photograph's."""
    masks = [decode_mask(row["mask"]["bytes"]) for row in real]
    boxes = [bounding_box(largest_defect(mask)) for mask in masks]
    extent = median(max(one.stop - one.start for one in box) for box in boxes)
    return min(next((side for side in SIDES if side >= ROOM * extent), round(ROOM * extent)), *(min(mask.shape) for mask in masks))


def largest_defect(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest defect of a mask alone, or the mask if it is empty."""
    labels = components(mask)
    return (labels == largest_component(labels)).astype(np.uint8) if labels.any() else mask


def _profiles(table: pd.DataFrame) -> dict[str, tuple[list[float], list[float]]]:
    rows = rows_where(table, measure=PROFILE)
    return {
        str(made_by): (some.distance.astype(float).tolist(), some.value.tolist()) for made_by, some in rows.groupby("made_by", sort=False)
    }
