"""The gallery of a category: real defects and samples as one small picture file each, so that a page of thousands stays fluent."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from stage.report.cards import slug
from stage.report.sheets import Panel, Specimen, strip
from stage.report.specimens import real_specimens, synthetic_specimens

EDGE = 96  # px; largest side of one picture in a thumbnail
QUALITY = 85  # of 100, where a thumbnail loses anything
REAL = "real"  # no method has this name


class Thumbnail(NamedTuple):
    """One picture of the gallery: its file relative to the page, its size in px, and what it shows. `made_by` is REAL or a method."""

    source: str
    width: int
    height: int
    defect: str
    made_by: str
    verdict: str
    caption: str
    order: str


def write_gallery(
    data: Path, category: str, methods: Sequence[str], defects: Sequence[str], *, root: Path, folder: Path, count: int
) -> list[Thumbnail]:
    """Of each defect type up to `count` accepted samples per method, half as many real defects, and a third as many rejected samples."""
    found: list[Thumbnail] = []
    for defect in defects:
        parts: list[tuple[str, str, Iterable[Specimen]]] = [(REAL, "", real_specimens(data, category, defect, max(1, count // 2)))]
        for method in methods:
            shown = {"accepted": count, "rejected": max(1, count // 3)}
            parts += [
                (method, verdict, synthetic_specimens(data, category, method, defect, many, verdict=verdict))
                for verdict, many in shown.items()
            ]
        for made_by, verdict, specimens in parts:
            place = folder / slug(defect) / "-".join(filter(None, (made_by, verdict)))
            found += _write(specimens, root, place, defect=defect, made_by=made_by, verdict=verdict)
    return found


def encoded(panels: Sequence[Panel]) -> bytes:
    """A WebP of the panels side by side, each at most EDGE px, exact where that is smaller: so are pictures of few pixels."""
    picture = strip(panels, min(EDGE, max(panels[0].picture.size)))
    return min((_webp(picture, lossless=True), _webp(picture, quality=QUALITY)), key=len)


def _write(specimens: Iterable[Specimen], root: Path, place: Path, *, defect: str, made_by: str, verdict: str) -> list[Thumbnail]:
    found: list[Thumbnail] = []
    (root / place).mkdir(parents=True, exist_ok=True)
    for number, specimen in enumerate(specimens):
        path = place / f"{number:05}.webp"
        content = encoded(specimen.panels)
        (root / path).write_bytes(content)
        with Image.open(io.BytesIO(content)) as picture:
            size = picture.size
        order = ", ".join(panel.label for panel in specimen.panels)
        found.append(Thumbnail(path.as_posix(), *size, defect, made_by, verdict, specimen.caption, order))
    return found


def _webp(picture: Image.Image, *, lossless: bool = False, quality: int = 60) -> bytes:
    """`quality` of a lossless file is the effort of compressing it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=lossless, quality=quality, exact=False)
    return buffer.getvalue()
