"""The learning curve of a category: a picture, and its values as a table for those who cannot tell its lines apart."""

import math
from pathlib import Path
from typing import NamedTuple

from stage.report.charts import defects_label, draw_learning_curve
from stage.segmentation.results import Results
from stage.segmentation.verdicts import learning_curve


class LearningCurve(NamedTuple):
    """The picture's address relative to the page, numbers of real defects per type in words, and the AP of each arm at these; None if not tested."""

    picture: str
    counts: list[str]
    arms: dict[str, list[float | None]]


def write_learning_curve(results: Results, category: str, root: Path, folder: Path) -> LearningCurve | None:
    """Draw the curve below `root / folder`; None if every arm was trained with the whole third alone."""
    curve = learning_curve(results, category)
    if len(curve) == 1:
        return None
    path = folder / "learning.svg"
    draw_learning_curve(root / path, curve)
    arms = {str(arm): [None if math.isnan(value) else value for value in curve[arm].tolist()] for arm in curve.columns}
    return LearningCurve(path.as_posix(), [defects_label(count) for count in curve.index], arms)
