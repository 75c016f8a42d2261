"""Pictures side by side: labelled panels, the enlarged defect, and contact sheets."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from stage.core.errors import Refusal
from stage.datasets.windows import first_pixel

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom, px; right and bottom are outside

SMALLEST_CROP = 12  # px; a defect of three pixels is still shown with its surroundings
MARGIN, GAP, GROUP_GAP, LABEL_HEIGHT, TITLE_HEIGHT = 16, 6, 28, 28, 40  # px of a contact sheet
PAPER, INK, MARK = "#ffffff", "#30343b", "#e5484d"


class Panel(NamedTuple):
    """One labelled picture; `box` is the region that the next panel enlarges."""

    label: str
    picture: Image.Image
    box: Rectangle | None = None


class Specimen(NamedTuple):
    """Panels shown together in one row, and their caption; `name` is the sample's id or the photograph's path, if it is needed."""

    caption: str
    panels: tuple[Panel, ...]
    name: str = ""


def defect_box(mask: Image.Image, *, room: float = 1.25, smallest: int = SMALLEST_CROP) -> Rectangle:
    """The square around the non-zero pixels of an `L` mask, `room` times their extent and at least `smallest` px wide, moved inside the image."""
    left, top, right, bottom = mask.getbbox() or (0, 0, mask.width, mask.height)
    edge = min(max(int(room * max(right - left, bottom - top)) + 4, smallest), mask.width, mask.height)
    x, y = first_pixel(left, right, edge, mask.width), first_pixel(top, bottom, edge, mask.height)
    return x, y, x + edge, y + edge


def enlargement(label: str, image: Image.Image, mask: Image.Image) -> tuple[Panel, Panel, Panel]:
    """The image with its defect's surroundings marked, and these surroundings alone, in the image and in the mask: the two can be compared."""
    box = defect_box(mask)
    return Panel(label, image, box), Panel("enlarged", image.crop(box)), Panel("its mask", mask.crop(box))


def contact_sheet(specimens: Sequence[Specimen], *, title: str = "", per_row: int = 2, tile: int = 192) -> Image.Image:
    """An RGB sheet of specimens that have the same panels, `per_row` side by side under labelled columns, `tile` px a picture."""
    if not specimens:
        raise Refusal("Expected at least one specimen for a contact sheet, found none. Synthesize samples of this defect type first.")
    labels = [panel.label for panel in specimens[0].panels]
    per_row = min(per_row, len(specimens))
    group_width = len(labels) * (tile + GAP) - GAP
    first_y = MARGIN + LABEL_HEIGHT + (TITLE_HEIGHT if title else 0)
    row_count = -(-len(specimens) // per_row)
    size = (2 * MARGIN + per_row * (group_width + GROUP_GAP) - GROUP_GAP, first_y + row_count * (tile + GAP) - GAP + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=_font(22))
    for column in range(per_row):
        for position, label in enumerate(labels):
            x = MARGIN + column * (group_width + GROUP_GAP) + position * (tile + GAP)
            draw.text((x, first_y - LABEL_HEIGHT), label, fill=INK, font=_font(16))
    for number, specimen in enumerate(specimens):
        row, column = divmod(number, per_row)
        corner = (MARGIN + column * (group_width + GROUP_GAP), first_y + row * (tile + GAP))
        _paste_row(sheet, specimen.panels, corner, tile)
    return sheet


def strip(panels: Sequence[Panel], tile: int) -> Image.Image:
    """The panels side by side without labels, RGBA with clear gaps, `tile` px a picture."""
    row = Image.new("RGBA", (len(panels) * (tile + GAP) - GAP, tile))
    _paste_row(row, panels, (0, 0), tile)
    return row


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Several contact sheets as one picture, one below the other."""
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), PAPER)
    y = 0
    for sheet in sheets:
        whole.paste(sheet, (0, y))
        y += sheet.height
    return whole


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font for most languages; Pillow's own has no glyph for `ä`."""
    from matplotlib import get_data_path  # here, because it takes a quarter of a second

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _paste_row(sheet: Image.Image, panels: Sequence[Panel], corner: tuple[int, int], tile: int) -> None:
    for position, panel in enumerate(panels):
        x, y = corner[0] + position * (tile + GAP), corner[1]
        method = Image.Resampling.NEAREST if max(panel.picture.size) <= tile else Image.Resampling.LANCZOS
        picture = ImageOps.contain(panel.picture.convert("RGB"), (tile, tile), method)
        sheet.paste(picture, (x, y))
        if panel.box:
            scale = picture.width / panel.picture.width
            left, top, right, bottom = (round(edge * scale) for edge in panel.box)
            line = 2 if tile > 100 else 1
            ImageDraw.Draw(sheet).rectangle((x + left, y + top, x + right - 1, y + bottom - 1), outline=MARK, width=line)
