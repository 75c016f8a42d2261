"""Shared by all pages: templates that escape names, and specimens as picture files under safe file names."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from stage.core.digests import digest_of
from stage.core.redaction import without_secrets
from stage.core.wording import counted
from stage.report.sheets import Panel, Specimen

LARGEST_EDGE = 256  # px; larger pictures are reduced


def templates() -> Environment:
    """The pages' templates: data are escaped, and a missing value is an error."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    filters: dict[str, Any] = {"counted": counted, "quoted": shlex.quote, "without_secrets": without_secrets}
    environment.filters.update(filters)
    return environment


class Mark(NamedTuple):
    """A rectangle over a picture, in percent of its width and height."""

    left: float
    top: float
    width: float
    height: float


class Tile(NamedTuple):
    """One picture of a page: label, address relative to the page, alternative text."""

    label: str
    source: str
    alt: str
    mark: Mark | None


class Card(NamedTuple):
    """One specimen of a page."""

    caption: str
    tiles: tuple[Tile, ...]


def slug(name: str) -> str:
    """A unique file name for any text: the text if it is up to 40 of [a-z0-9_], else its safe characters, `-` and a digest of the whole.

    A name without a digest has no `-` and no capital, so no two texts share a name, even on disks that ignore case.
    """
    if re.fullmatch(r"[a-z0-9_]{1,40}", name):
        return name
    digest = digest_of(name, size=8)
    return f"{re.sub('[^A-Za-z0-9_]+', '_', name)[:40] or '_'}-{digest}"


def write_cards(specimens: Sequence[Specimen], root: Path, folder: Path) -> list[Card]:
    """Write the panels of each specimen under `root / folder`, for pages that lie in `root`."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    cards: list[Card] = []
    for number, specimen in enumerate(specimens):
        tiles = [
            _write_tile(panel, specimen.caption, root, folder / f"{number:02}-{place}.png") for place, panel in enumerate(specimen.panels)
        ]
        cards.append(Card(specimen.caption, tuple(tiles)))
    return cards


def _write_tile(panel: Panel, caption: str, root: Path, path: Path) -> Tile:
    picture = panel.picture.copy()
    picture.thumbnail((LARGEST_EDGE, LARGEST_EDGE), Image.Resampling.LANCZOS)
    picture.save(root / path, optimize=True)
    return Tile(panel.label, path.as_posix(), f"{panel.label}: {caption}", _mark(panel))


def _mark(panel: Panel) -> Mark | None:
    if panel.box is None:
        return None
    left, top, right, bottom = panel.box
    x, y = 100 / panel.picture.width, 100 / panel.picture.height
    return Mark(left * x, top * y, (right - left) * x, (bottom - top) * y)
