"""Mask files as defect pixels, decided by the rules of docs/robustness.md. An ambiguous mask raises DataError; an unusual one leaves a note.

H, W mask size after EXIF rotation. A mask is (H, W) uint8 in {0, 1}, 1 = defect.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from stage.core.errors import DataError
from stage.datasets.decoding import WIDEST, Picture, decode
from stage.datasets.images import Converted, Raster

LARGEST_LABEL = 31  # a lossless value up to this is a label, not a grey level; mask palettes have fewer classes
MANY = 32  # levels or colours; a mask with more was smoothed or compressed, or is a photograph
FEW = 8  # grey levels; so few may be class labels, which a threshold would divide
IGNORE = 255  # VOC's label of what is neither defect nor normal
VOC_BORDER = 0xE0E0C0  # the colour of VOC's label 255
ALPHA_DOUBT = 0.1  # of the marked pixels; if colour and alpha differ by more, they mark different things
DARK, BRIGHT = 32, 224  # of 255; a photograph has most of its pixels between them, a mask its edges only


def read_mask(path: Path, *, max_megapixels: float, threshold: int) -> Raster:
    """A mask file as (H, W) uint8 in {0, 1}, maybe empty; `threshold` is a grey level of 255. Raises DataError if it is ambiguous."""
    picture = decode(path, max_megapixels)
    if picture.frames > 1:
        raise DataError(
            "holds several pictures, one after the other: which is the mask is open; save it as one", f"{picture.frames} frames"
        )
    marked, notes = _marked(picture, threshold)
    return Raster(marked.astype(np.uint8), picture.mode, (*notes, *picture.notes), picture.orientation)


def _marked(picture: Picture, threshold: int) -> Converted:
    image = picture.image
    if image.has_transparency_data:
        rgba = np.array(image.convert("RGBA"))
        if rgba[..., 3].min() < rgba[..., 3].max():
            return _with_alpha(picture, rgba, threshold)
    if image.mode == "P":
        return _palette(image, picture.is_lossy, threshold)
    if picture.is_wide or image.mode in ("I", "F", "L"):
        return _grey(np.array(image), picture.is_lossy, threshold, picture.top)
    return _colour(np.array(image.convert("RGB")), picture.is_lossy, threshold)


def _with_alpha(picture: Picture, rgba: np.ndarray, threshold: int) -> Converted:
    colour, opaque = rgba[..., :3], rgba[..., 3] >= threshold
    if (colour == colour[0, 0]).all():
        return opaque, ["the alpha channel is the mask: opaque pixels are defect"]
    if picture.image.mode == "P":
        return _palette(picture.image, picture.is_lossy, threshold)
    seen, notes = _colour(colour * opaque[..., None].astype(np.uint8), picture.is_lossy, threshold)
    if np.array_equal(seen, opaque):
        return seen, [*notes, "transparent pixels are normal"]
    plain, _ = _colour(colour, picture.is_lossy, threshold)
    if np.count_nonzero(plain != seen) > ALPHA_DOUBT * np.count_nonzero(plain):
        raise DataError(
            "its colours mark other pixels than its opaque ones: which are meant is open; save it without alpha",
            f"{plain.sum()} and {seen.sum()} pixels",
        )
    return seen, [*notes, "transparent pixels are normal"]


def _palette(image: Image.Image, is_lossy: bool, threshold: int) -> Converted:
    index, table = np.array(image), np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    table[: len(colours)] = colours
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    if len(np.unique(table[used], axis=0)) == len(used) and ((table[used] == table[used][:, :1]).all() or len(used) > MANY):
        return _colour(table[index], is_lossy, threshold)
    black = [number for number in used if not table[number].any()]
    normal = 0 if 0 in used and (0 in black or not black) else next(iter(black), None)
    if normal is None:
        raise DataError("a palette mask without label 0 and without black: which one is normal is open", f"labels {_listed(used)}")
    return _labels(index, used, int(normal), "a palette mask")


def _labels(values: np.ndarray, used: np.ndarray, normal: int, what: str) -> Converted:
    defects = [number for number in used.tolist() if number not in (normal, IGNORE)] or [
        number for number in used.tolist() if number != normal
    ]
    marked = np.isin(values, defects)
    ignored = np.count_nonzero((values == IGNORE) & ~marked)
    notes = [f"{what} of labels {_listed(defects)}: every one but {normal} is defect"] if defects else []
    return marked, notes + [f"{ignored} pixels of label {IGNORE}, ignore, are normal"] * bool(ignored)


def _colour(rgb: np.ndarray, is_lossy: bool, threshold: int) -> Converted:
    if (rgb == rgb[..., :1]).all():
        return _grey(rgb[..., 0], is_lossy, threshold)
    peaks = rgb.max(axis=2)
    codes = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    used = np.unique(codes)
    if is_lossy or len(used) > MANY:
        _refuse_photograph(peaks)
        level = max(DARK, int(peaks.max()) * threshold / 256)
        return peaks >= level, [f"{len(used)} colours: where the brightest channel is from {level:g} on is defect"]
    if used[0] != 0:
        raise DataError(
            "a mask of colours, none of them black: which one is normal is open; save it with the defect on black", f"{len(used)} colours"
        )
    floor = DARK if peaks.max() >= DARK else 1  # labels may be stored in one channel; beside real colours, a level of 1 is noise
    marked = peaks >= floor
    border = marked & (codes == VOC_BORDER)
    if border.any() and (marked & ~border).any():
        marked &= ~border
    count = len(np.unique(codes[marked]))
    notes = [f"a mask of {count} colours: every one but black is defect"]
    return marked, notes + [f"{border.sum()} pixels of VOC's border colour, ignore, are normal"] * bool((border & ~marked).any())


def _grey(values: np.ndarray, is_lossy: bool, threshold: int, top: int = WIDEST) -> Converted:
    used = np.unique(values) if values.dtype != np.uint8 else np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    bits = values.dtype.itemsize * 8
    scaled = np.rint(values / (top / 255)).astype(np.uint8) if bits == 16 else values
    if len(used) == 1:
        return np.full(values.shape, bool(used[0] > 0)), []
    if len(used) == 2 and used[0] == 0 and not is_lossy:
        plain = bits < 32 and scaled.max() >= threshold
        return values > 0, [] if plain else [f"a mask of labels {used[1]:g}: every one but 0 is defect"]
    if not is_lossy and (doubt := _label_map(used)) is not None:
        if doubt:
            raise DataError(doubt, f"labels {_listed(used)}")
        return _labels(values, used.astype(int), 0, "a mask")
    if bits == 32:
        raise DataError("a mask of 32 bits a pixel, whose range the file does not say: save it with 8 bits", f"{len(used)} levels")
    if len(used) > MANY:
        _refuse_photograph(scaled)
    few = not is_lossy and len(used) <= FEW
    return scaled >= threshold, [f"grey levels {_listed(used)}: from {threshold} of 255 on they are defect"] * few


def _label_map(used: np.ndarray) -> str | None:
    """Why a label map of these levels is ambiguous, empty if it is not; None if they are grey levels."""
    labels = used[used != IGNORE]
    if not np.isin(labels, np.arange(LARGEST_LABEL + 1)).all():
        return None
    if len(labels) < len(used) and len(labels[labels > 0]):
        return f"holds labels beside {IGNORE}: whether {IGNORE} is the defect or what to ignore is open; save the defect as 255 and all else as 0"
    return "" if used[0] == 0 else "holds labels and no 0: which one is normal is open; save it as 0 on normal pixels"


def _refuse_photograph(levels: np.ndarray) -> None:
    share = np.count_nonzero((levels >= DARK) & (levels < BRIGHT)) / levels.size
    if share > 0.5:
        raise DataError("most of it is neither black nor white, so it is a photograph and no mask", f"{share:.0%}")


def _listed(values: np.ndarray | list[int]) -> str:
    shown = [f"{value:g}" for value in [*values][:FEW]]
    return ", ".join(shown) + ", ..." * (len(values) > FEW)
