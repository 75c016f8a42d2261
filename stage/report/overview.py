"""One picture of what was made: the first samples of every defect type, for a README or a quick look."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stage.core.errors import Refusal
from stage.report.artefacts import outcomes
from stage.report.sheets import contact_sheet, stacked
from stage.report.specimens import synthetic_specimens


def overview(data: Path, categories: Sequence[str], methods: Sequence[str], count: int) -> Image.Image:
    """Background, synthetic image, and its defect and mask enlarged, of the first `count` accepted samples of each defect type."""
    types = [
        (category, method, outcome.defect)
        for category in categories
        for method in methods
        for outcome in outcomes(data, category, method)
        if outcome.accepted
    ]
    sheets = [
        contact_sheet([*synthetic_specimens(data, category, method, defect, count)], title=f"{category}, {defect}, by {method}", tile=128)
        for category, method, defect in types
    ]
    if not sheets:
        raise Refusal(f"Expected accepted samples under {data / 'synthesize'}, found none. Run `dvc repro` first.")
    return stacked(sheets)
