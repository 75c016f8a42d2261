"""The benchmark of tiny defects: its data, and that it runs."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import tiny_defects
from benchmarks.tiny_spots import CATEGORY, SIDE, SIZES, defect_of, draw_spots


def test_every_photograph_has_one_dark_spot_of_its_size_under_its_mask(tmp_path):
    """Otherwise the shares would not be of the sizes that the table names."""
    draw_spots(tmp_path, images=3)
    for size in SIZES:
        for number in range(3):
            folder = tmp_path / CATEGORY
            image = np.array(Image.open(folder / "test" / defect_of(size) / f"{number:03}.png"))
            mask = np.array(Image.open(folder / "ground_truth" / defect_of(size) / f"{number:03}_mask.png")) > 0
            rows, columns = np.nonzero(mask)
            assert image.shape == mask.shape == (SIDE, SIDE)
            assert (np.ptp(rows) + 1, np.ptp(columns) + 1, mask.sum()) == (size, size, size * size)
            assert image[mask].max() < 100 < image[~mask].min()


@pytest.mark.slow
def test_benchmark_prints_a_row_per_size(capsys):
    """Otherwise the shares in the documents could not be found again. Max-pooling holds every spot; antialiasing none of 1 and 2 px."""
    tiny_defects.main("--quick")
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line and "%" in line]
    cells = {int(size): dict(zip(tiny_defects.CONFIGURATIONS, (cell.strip() for cell in shares), strict=True)) for size, *shares in rows}
    assert tuple(cells) == SIZES
    assert all("(" not in cells[size]["all on"] for size in SIZES)
    assert [cells[size]["released"] for size in (1, 2)] == ["0% (0%)", "0% (0%)"]
