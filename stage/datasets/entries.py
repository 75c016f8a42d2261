"""One row of the catalog: an image file, its prepared pixels, and the reason if it is set aside."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.folder import FoundFile
from stage.datasets.foreground import Outline
from stage.datasets.images import WHOLE_RANGE, GreyRange, Raster, pixel_digest, read_image
from stage.datasets.matching import mask_for
from stage.datasets.outlines import outline_of
from stage.datasets.pairs import image_cell
from stage.datasets.resize import resize_image, resize_mask
from stage.datasets.rules import GOOD

Cell = dict[str, bytes | None]
RECALLED = "recalled: "  # begins the reason of a withdrawn entry
OF_ACCEPTED = ("image", "mask", "foreground", "foreground_strategy", "foreground_note", "foreground_coverage")


@dataclass(frozen=True)
class Entry:
    """The fields are the catalog's columns; docs/data.md describes them. An empty `reason` means accepted."""

    category: str
    defect: str
    source_split: str
    image_path: str | None
    mask_path: str | None
    group: str
    licence: str
    split: str = ""
    image_sha256: str | None = None
    image_digest: str | None = None
    mask_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    defect_area: int | None = None
    prepared_area: int | None = None
    reason: str = ""
    detail: str = ""
    note: str = ""
    foreground_strategy: str | None = None
    foreground_note: str | None = None
    foreground_coverage: float | None = None
    image: Cell | None = None
    mask: Cell | None = None
    foreground: Cell | None = None

    @property
    def status(self) -> str:
        """`accepted`, `set_aside` or `recalled`."""
        return "accepted" if not self.reason else "recalled" if self.reason.startswith(RECALLED) else "set_aside"

    @property
    def path(self) -> str:
        """Path of the row's file: the image, or a mask without an image."""
        return self.image_path or self.mask_path or ""

    def set_aside(self, reason: str, detail: str = "") -> "Entry":
        """The same entry without its pixels and its side of the split; `detail` is what differs between files of one reason."""
        return replace(self, reason=reason, detail=detail, split="", **dict.fromkeys(OF_ACCEPTED))

    def recalled(self, reason: str) -> "Entry":
        """The same entry withdrawn, without its pixels; it keeps its place in the split, and nothing is drawn from it."""
        return replace(self, reason=f"{RECALLED}{reason}", **dict.fromkeys(OF_ACCEPTED))

    def with_foreground(self, outline: Outline) -> "Entry":
        """The same entry with its foreground."""
        return replace(
            self,
            foreground_strategy=outline.strategy,
            foreground_note=outline.note,
            foreground_coverage=float(outline.mask.mean()),
            foreground=image_cell(outline.mask),
        )


def read_entry(found: FoundFile, root: Path, params: Prepare, *, category: str, group: str, grey: GreyRange = WHOLE_RANGE) -> Entry:
    """The row of one found file, with prepared pixels; a DataError becomes its reason. `grey` is the category's."""
    is_normal = found.defect == GOOD
    mask_path = None if is_normal else found.mask
    place = (category, found.defect, found.source_split, found.image, mask_path)
    entry = Entry(*place, group, params.licence, reason=found.reason, detail=found.detail)
    if entry.reason:
        return entry
    files = [root / path for path in (found.image, *found.masks, *found.foregrounds) if path]
    before = _states(files)
    try:
        entry = _with_digests(entry, found, root)
        raster = read_image(root / found.path, max_megapixels=params.max_megapixels, grey=grey)
        height, width = raster.pixels.shape[:2]
        entry = replace(entry, width=width, height=height, mode=raster.mode)
        _check_photograph(raster.pixels, is_normal)
        mask = mask_for(found, root, params, raster)
        image = resize_image(raster.pixels, params.image_size)
        entry = _with_pixels(entry, image, mask, (*raster.notes, *([found.note] if found.note else [])))
        outline = outline_of(found, root, params, image, (height, width))
        if _states(files) != before:
            raise DataError("changed while it was read: run again when nothing writes there")
        return entry.with_foreground(outline) if outline else entry
    except DataError as error:
        return entry.set_aside(error.reason, error.detail)


def _states(paths: list[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is written to; empty if a file cannot be read, which its reader reports."""
    try:
        return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in (path.stat() for path in paths)]
    except OSError:
        return []


def _with_digests(entry: Entry, found: FoundFile, root: Path) -> Entry:
    mask_paths = found.masks if entry.mask_path else ()
    return replace(
        entry,
        image_sha256=_sha256(root / found.image) if found.image else None,
        mask_sha256=_sha256(*(root / path for path in mask_paths)) if mask_paths else None,
    )


def _sha256(*paths: Path) -> str:
    """Of the bytes of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise DataError("a file that cannot be read", f"{path.name}: {error.strerror}") from None
    return digest.hexdigest()


def _check_photograph(pixels: np.ndarray, is_normal: bool) -> None:
    if is_normal and (pixels == pixels[0, 0]).all():
        raise DataError("has one colour everywhere, so it is no photograph: a mask, or a blank picture")


def _with_pixels(entry: Entry, image: np.ndarray, mask: Raster, notes: tuple[str, ...]) -> Entry:
    prepared = resize_mask(mask.pixels, len(image))
    notes = (*notes, *(f"mask: {note}" for note in mask.notes))
    return replace(
        entry,
        defect_area=int(mask.pixels.sum()),
        prepared_area=int(prepared.sum()),
        note="; ".join(notes),
        image_digest=pixel_digest(image),
        image=image_cell(image),
        mask=image_cell(prepared),
    )
