"""The pictures and the table of the ablation, redrawn from the published results; they are not tracked."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stage.ablation.bars import write_bars
from stage.ablation.results import MEAN, METRICS, Group, table_rows
from stage.ablation.side_by_side import side_by_side
from stage.report.cards import slug


def draw_ablation(data: Path, groups: Sequence[Group], output: Path) -> list[Path]:
    """Write bars.svg, bars.png and bars.csv over all groups, and a sheet of samples per category; returns what was written."""
    output.mkdir(parents=True, exist_ok=True)
    bars, table = [output / "bars.svg", output / "bars.png"], output / "bars.csv"
    write_bars(bars, groups)
    pd.DataFrame(table_rows(groups), columns=["category", "configuration", "accepted", *METRICS]).to_csv(table, index=False)
    sheets = {output / f"samples-{slug(group.category)}.png": group for group in groups if group.category != MEAN}
    for path, group in sheets.items():
        side_by_side(data, group).save(path)
    return [*bars, table, *sheets]
