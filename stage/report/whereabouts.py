"""Where on the part defects lie: a map per defect type and origin, real or a method, in part coordinates.

E edge of a map. Masks and parts are (H, W) uint8 in {0, 1}; 1 = defect, 1 = object.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from stage.core.arrays import Values
from stage.datasets.components import bounding_box
from stage.datasets.pairs import decode_mask
from stage.datasets.pose import SPAN, Pose, in_part_coordinates, is_reversed, reversed_pose
from stage.datasets.table import read_catalog
from stage.release.fidelity import REAL
from stage.release.reader import shard_paths
from stage.report.artefacts import catalog, stream_rows
from stage.report.cards import slug
from stage.synthesis.parts import Parts, PosedPart
from stage.synthesis.plan import defects_of
from stage.synthesis.rows import NamedMask
from stage.synthesis.source import Source, read_source

EDGE = 96  # px of a map, which the page shows three times enlarged
MARGIN = 3  # px around the contents of all maps of a category
FAINT = 0.02  # of the examples; places where fewer show the part are cut off
COUNT = 200  # samples in a map, at most
LOOKED_AT = 24  # normal photographs; if none of them shows a part, the category shows a texture
GROUND, PART, DEFECT = (np.array(colour, np.float64) for colour in ((250, 250, 250), (176, 182, 192), (205, 38, 48)))


class Map(NamedTuple):
    """A map's address relative to the page, its size in px, its number of masks, and the mean share of a mask that lies on the part."""

    made_by: str
    address: str
    width: int
    height: int
    masks: int
    on_part: float


class Whereabouts(NamedTuple):
    """The maps by defect type; `of_part` if they are in part coordinates, else in the image's."""

    types: dict[str, list[Map]]
    of_part: bool


class CoverageMap(NamedTuple):
    """How often a defect and how often the part covers a place, (E, E) each, among `masks` examples, and the mean share of a mask on the part."""

    defect: Values
    part: Values
    masks: int
    on_part: float


class Frames:
    """The coordinates of a category's maps: the part's, in the direction of the first photograph that shows a part, or the image's."""

    def __init__(self, source: Source) -> None:
        self.source, self.parts = source, Parts(source)
        self.reference = next((seen for one in islice(source.backgrounds, LOOKED_AT) if (seen := self.parts.normal(one))), None)

    def pose(self, seen: PosedPart | None, shape: tuple[int, ...]) -> Pose | None:
        """The pose of a photograph in these coordinates; None if its part was not found, or has no direction although the reference has one."""
        if self.reference is None:
            return Pose((shape[0] - 1) / 2, (shape[1] - 1) / 2, max(shape) / SPAN, None)
        if seen is None or self.reference.pose.direction is None:
            return seen and seen.pose._replace(direction=None)
        if seen.pose.direction is None:
            return None
        return reversed_pose(seen.pose) if is_reversed(seen.picture, self.reference.picture, seen.bare) else seen.pose


def write_whereabouts(data: Path, category: str, methods: Sequence[str], *, root: Path, folder: Path) -> Whereabouts:
    """Draw the maps of every type: all real defects of the training part, and each method's first accepted samples."""
    frames = Frames(read_source(data / "prepare" / category))
    drawn = dict[tuple[str, str], CoverageMap]()
    for defect, real in defects_of(read_catalog(catalog(data, category))).items():
        found = {REAL: _summed(_real(frames, [one.mask for one in real]))}
        found |= {method: _summed(_made(frames, shard_paths(data / "synthesize" / category / method), defect)) for method in methods}
        drawn |= {(defect, name): one for name, one in found.items() if one}
    region = _region([*drawn.values()])
    types = dict[str, list[Map]]()
    for (defect, name), one in drawn.items():
        picture = Image.fromarray(painted(one)[region])
        path = folder / f"{slug(defect)}-{name}.png"
        (root / folder).mkdir(parents=True, exist_ok=True)
        picture.save(root / path, optimize=True)
        types.setdefault(defect, []).append(Map(name, path.as_posix(), *picture.size, one.masks, one.on_part))
    return Whereabouts(types, frames.reference is not None)


def painted(drawn: CoverageMap) -> NDArray[np.uint8]:
    """A map as RGB (E, E, 3): the part in grey, and red over it, stronger where more defects cover a place, relative to the map's maximum."""
    ground = GROUND + drawn.part[..., None] * (PART - GROUND)
    strength = np.sqrt(drawn.defect / max(drawn.defect.max(), 1e-9))[..., None]
    return np.rint(ground + strength * (DEFECT - ground)).astype(np.uint8)


class _Placed(NamedTuple):
    """A mask, the part that it lies on, and that part's pose."""

    mask: NDArray[np.uint8]
    part: NDArray[np.uint8]
    pose: Pose | None


def _real(frames: Frames, masks: Sequence[NamedMask]) -> Iterator[_Placed]:
    for one in masks:
        mask = frames.source.masks[one].mask
        part = frames.source.foregrounds.get(one, np.ones_like(mask))
        yield _Placed(mask, part, frames.pose(frames.parts.defective(one, 0), mask.shape))


def _made(frames: Frames, shards: Sequence[Path], defect: str) -> Iterator[_Placed]:
    wanted = (pc.field("defect") == defect) & (pc.field("verdict") == "accepted")
    for row in islice(stream_rows(shards, ["background_sha256", "mask"], wanted), COUNT):
        mask, background = decode_mask(row["mask"]["bytes"]), row["background_sha256"]
        if (part := frames.source.foregrounds.get(background)) is not None:  # the photograph may be gone by now
            yield _Placed(mask, part, frames.pose(frames.parts.normal(background), mask.shape))


def _summed(placed: Iterator[_Placed]) -> CoverageMap | None:
    defect, parts, shares = np.zeros((EDGE, EDGE)), np.zeros((EDGE, EDGE)), list[float]()
    for mask, part, pose in placed:
        if pose is None or not mask.any():
            continue
        defect += in_part_coordinates(mask * np.uint8(255), pose, EDGE)
        parts += in_part_coordinates(part * np.uint8(255), pose, EDGE)
        shares.append(float((mask * part).sum() / mask.sum()))
    full = 255 * len(shares)
    return CoverageMap(defect / full, parts / full, len(shares), float(np.mean(shares))) if shares else None


def _region(drawn: Sequence[CoverageMap]) -> tuple[slice, slice]:
    """The rows and columns in which any map has something, the same for all, so that they can be compared."""
    seen = np.any([(one.part > FAINT) | (one.defect > 0) for one in drawn], axis=0) if drawn else np.ones((EDGE, EDGE), bool)
    rows, columns = bounding_box(seen.astype(np.uint8))
    return _grown(rows), _grown(columns)


def _grown(side: slice) -> slice:
    return slice(max(0, side.start - MARGIN), side.stop + MARGIN)
