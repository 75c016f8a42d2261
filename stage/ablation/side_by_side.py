"""The same plan rows under every configuration of the ablation, as in the paper's Fig. 5."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from PIL import Image

from stage.ablation.configurations import SPECIMENS
from stage.ablation.results import Group
from stage.report.artefacts import decoded_picture, originals, query_rows
from stage.report.sheets import Panel, Specimen, contact_sheet, defect_box, stacked

Row = dict[str, Any]
COLUMNS = ["configuration", "sample_id", "defect", "ordinal", "background_sha256", "verdict", "image", "mask"]
TILE = 176  # px


def side_by_side(data: Path, group: Group) -> Image.Image:
    """A sheet of background, mask, and the defect's surroundings under every configuration; rejected samples are framed."""
    found = query_rows([data / "ablate" / group.category / SPECIMENS], COLUMNS, pc.field("image").is_valid())
    rows = sorted(found, key=lambda row: (row["defect"], row["ordinal"]))
    backgrounds = originals(data, group.category, {row["background_sha256"] for row in rows})
    samples: dict[str, dict[str, Row]] = {}
    for row in rows:
        samples.setdefault(row["sample_id"], {})[row["configuration"]] = row
    specimens: dict[str, list[Specimen]] = {}
    for sample in samples.values():
        first = next(iter(sample.values()))
        specimens.setdefault(first["defect"], []).append(
            _specimen(first, sample, group, decoded_picture(backgrounds[first["background_sha256"]]))
        )
    return stacked([_sheet(group.category, defect, some) for defect, some in specimens.items()])


def _sheet(category: str, defect: str, specimens: Sequence[Specimen]) -> Image.Image:
    return contact_sheet(specimens, title=f"{category}, {defect}; framed: rejected", per_row=1, tile=TILE)


def _specimen(first: Row, sample: dict[str, Row], group: Group, background: Image.Image) -> Specimen:
    mask = decoded_picture(first["mask"])
    box = defect_box(mask)
    made = [_panel(bar.label, sample[bar.name], box) for bar in group.bars if bar.name in sample]
    return Specimen(first["sample_id"], (Panel("background", background, box), Panel("mask", mask), *made))


def _panel(label: str, row: Row, box: tuple[int, int, int, int]) -> Panel:
    picture = decoded_picture(row["image"]).crop(box)
    return Panel(label, picture, None if row["verdict"] == "accepted" else (0, 0, *picture.size))
