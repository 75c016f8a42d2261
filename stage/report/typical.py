"""An example of what a method made of a defect type: the accepted sample of median contrast, with its defect large enough to be seen."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from stage.datasets.pairs import decode_mask
from stage.release.reader import shard_paths
from stage.report.artefacts import among, decoded_picture, originals, query_rows, stream_rows
from stage.report.fidelity_pictures import largest_defect
from stage.report.gallery import write_picture
from stage.report.sheets import Panel, defect_box

EDGE = 144  # px; largest side of one picture
ROOM, SMALLEST = 2.5, 32  # of the enlarged square: times the defect's larger side, and px at least


class Example(NamedTuple):
    """A picture, its size in px, and the sample's contrast and id: the whole sample, and enlarged the photograph, the sample and the mask."""

    source: str
    width: int
    height: int
    contrast: float
    sample_id: str


def write_example(data: Path, category: str, method: str, defect: str, *, root: Path, path: Path) -> Example | None:
    """Draw the example to `root / path`; None if no sample was accepted."""
    shards = shard_paths(data / "synthesize" / category / method)
    found = _middling(shards, (pc.field("defect") == defect) & (pc.field("verdict") == "accepted") & pc.field("image").is_valid())
    if found is None:
        return None
    contrast, sample_id = found
    [row] = query_rows(shards, ["image", "mask", "background_sha256"], among("sample_id", [sample_id]))
    image, mask = decoded_picture(row["image"]), decode_mask(row["mask"]["bytes"])
    box = defect_box(Image.fromarray(largest_defect(mask)), room=ROOM, smallest=SMALLEST)
    background = originals(data, category, {row["background_sha256"]}).get(row["background_sha256"])
    before = [decoded_picture(background)] if background else []
    enlarged = [*before, image, Image.fromarray(mask * np.uint8(255))]
    panels = [Panel("sample", image, box), *(Panel("", one.crop(box)) for one in enlarged)]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    return Example(path.as_posix(), *write_picture(panels, root / path, EDGE), contrast, sample_id)


def _middling(shards: Sequence[Path], wanted: pc.Expression) -> tuple[float, str] | None:
    """The contrast and id of the sample in the middle, by contrast and then by id; of a million samples, it keeps a number each."""
    contrasts = np.sort(array("d", (row["contrast"] for row in stream_rows(shards, ["contrast"], wanted))))
    if not contrasts.size:
        return None
    middle = len(contrasts) // 2
    contrast = float(contrasts[middle])
    alike = sorted(row["sample_id"] for row in stream_rows(shards, ["sample_id"], wanted & (pc.field("contrast") == contrast)))
    return contrast, alike[middle - int(np.searchsorted(contrasts, contrast))]
