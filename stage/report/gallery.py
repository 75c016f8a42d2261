"""The gallery of a category: real defects and samples as one small picture file each, so that a page of thousands stays fluent."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from stage.report.cards import slug
from stage.report.sheets import Panel, Specimen, strip
from stage.report.specimens import real_specimens, synthetic_specimens

EDGE = 96  # px; largest side of one picture in a thumbnail
QUALITY = 80  # of 100
REAL = "real"  # no method has this name


class Thumbnail(NamedTuple):
    """One picture of the gallery: its file relative to the page, its size in px, and what it shows. `made_by` is REAL or a method.

    `name` is the sample's id, or the path of the real photograph; `anchor` is its place on the page.
    """

    source: str
    width: int
    height: int
    anchor: str
    name: str
    defect: str
    made_by: str
    verdict: str
    caption: str
    order: str


def write_gallery(
    data: Path, category: str, methods: Sequence[str], defects: Sequence[str], *, root: Path, folder: Path, count: int
) -> list[Thumbnail]:
    """For each defect type up to `count` accepted and a third as many rejected samples per method, and half as many real defects."""
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


def encoded(panels: Sequence[Panel], largest: int = EDGE) -> bytes:
    """A WebP of the panels side by side, each at most `largest` px; smaller pictures stay exact if that takes no more bytes."""
    edge = min(largest, max(panels[0].picture.size))
    picture = strip(panels, edge)
    lossy = _webp(picture, quality=QUALITY)
    return min(lossy, _webp(picture, lossless=True), key=len) if edge < largest else lossy


def write_picture(panels: Sequence[Panel], path: Path, largest: int = EDGE) -> tuple[int, int]:
    """Write the panels side by side as a small picture, and return its width and height in px."""
    content = encoded(panels, largest)
    path.write_bytes(content)
    with Image.open(io.BytesIO(content)) as picture:
        return picture.size


def _write(specimens: Iterable[Specimen], root: Path, place: Path, *, defect: str, made_by: str, verdict: str) -> list[Thumbnail]:
    found: list[Thumbnail] = []
    (root / place).mkdir(parents=True, exist_ok=True)
    for number, specimen in enumerate(specimens):
        path = place / f"{number:05}.webp"
        size = write_picture(specimen.panels, root / path)
        anchor, order = f"{slug(defect)}-{place.name}-{number:05}", ", ".join(panel.label for panel in specimen.panels)
        found.append(Thumbnail(path.as_posix(), *size, anchor, specimen.name, defect, made_by, verdict, specimen.caption, order))
    return found


def _webp(picture: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", **how)
    return buffer.getvalue()
