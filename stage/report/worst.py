"""The test images that segmenters get most wrong, and pictures of the errors.

A pixel counts as marked if its published probability, one of 256 levels, is at least the threshold of the tables.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from stage.core.arrays import Mask
from stage.datasets.pairs import decode_mask
from stage.report.artefacts import ImageCell, Row, decoded_picture, query_rows, stream_rows
from stage.report.sheets import Panel, Specimen
from stage.segmentation.arms import REAL_ONLY, arm_label
from stage.segmentation.verdicts import signed

HIT, MISSED, FALSE, NORMAL = (255, 255, 255), (213, 94, 0), (86, 180, 233), (32, 34, 38)  # told apart by colour-blind people too
TEXTS = ("category", "defect", "image_path", "image", "mask")  # the other columns are arms


class Predictions(NamedTuple):
    """The published predictions of a category: per image its defect type, and per arm the IoU of each image, (N,), at its threshold."""

    file: Path
    defects: list[str]
    ious: dict[str, NDArray[np.float64]]
    thresholds: Mapping[str, float]

    def lowest(self, arm: str, count: int) -> list[int]:
        """The images that an arm gets most wrong, worst first."""
        return [int(index) for index in np.argsort(self.ious[arm], kind="stable")[:count]]

    def most_lost(self, arm: str, count: int, besides: Collection[int] = ()) -> list[int]:
        """The images on which an arm is worse than the real third alone, the largest loss first, `besides` those that are shown already."""
        gain = self.ious[arm] - self.ious[REAL_ONLY]
        return [int(index) for index in np.argsort(gain, kind="stable") if gain[index] < 0 and index not in besides][:count]


def read_predictions(data: Path, category: str, thresholds: Mapping[str, float]) -> Predictions:
    """The IoU of every image and arm, whose `thresholds` are probabilities; raises CorruptFileError."""
    file = data / "segment" / category / "predictions.parquet"
    names = query_rows([file], ["defect"], pc.field("mask").is_valid())
    arms = [name for name in pq.read_schema(file).names if name not in TEXTS]
    found = [
        [_iou(decode_mask(row["mask"]["bytes"]), _marked(row[arm], thresholds[arm])) for arm in arms]
        for row in stream_rows([file], ["mask", *arms], pc.field("mask").is_valid())
    ]
    columns = np.array(found, np.float64).reshape(-1, len(arms)).T
    return Predictions(file, [row["defect"] for row in names], dict(zip(arms, columns, strict=True)), thresholds)


def worst_specimens(predictions: Predictions, indices: Sequence[int], arm: str) -> list[Specimen]:
    """These images' photographs, truths, and, for the real third alone and an arm, the probability and its difference to the truth."""
    columns = ["image_path", "image", "mask", REAL_ONLY, arm]
    every = enumerate(stream_rows([predictions.file], columns, pc.field("mask").is_valid()))
    rows = {index: row for index, row in every if index in indices}
    return [_specimen(rows[index], index, predictions, arm) for index in indices]


def difference_picture(truth: Mask, marked: Mask) -> Image.Image:
    """The found, missed and falsely marked pixels in the colours above; `truth` and `marked` are (H, W)."""
    return Image.fromarray(np.array([NORMAL, FALSE, MISSED, HIT], np.uint8)[2 * truth + marked])


def _specimen(row: Row, index: int, predictions: Predictions, arm: str) -> Specimen:
    truth = decode_mask(row["mask"]["bytes"])
    panels = [Panel("photograph", decoded_picture(row["image"])), Panel("truth", decoded_picture(row["mask"]))]
    for name in (REAL_ONLY, arm):
        panels += [
            Panel(arm_label(name), decoded_picture(row[name])),
            Panel("difference", difference_picture(truth, _marked(row[name], predictions.thresholds[name]))),
        ]
    alone, both = (predictions.ious[name][index] for name in (REAL_ONLY, arm))
    told = f"IoU {100 * both:.0f} %, real only {100 * alone:.0f} % ({signed(both - alone)})"
    return Specimen(f"{predictions.defects[index]}, {told}, {row['image_path']}", tuple(panels))


def _marked(cell: ImageCell, threshold: float) -> Mask:
    return (np.asarray(decoded_picture(cell))[..., 0] >= 255 * threshold).astype(np.uint8)


def _iou(truth: Mask, marked: Mask) -> float:
    """The IoU; 1 if there is nothing to find and nothing is found."""
    either = np.count_nonzero(truth | marked)
    return np.count_nonzero(truth & marked) / either if either else 1.0
