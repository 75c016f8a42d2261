"""The benchmark by which a setting is chosen without a look at the test part."""

import io

import numpy as np
from rich.console import Console

from benchmarks.on_folds import table


def test_a_gain_is_the_mean_of_the_seeds_with_both_kinds_of_error() -> None:
    """A setting would be chosen by a figure that is something else. By hand: gains of 10 and 20 points; their means in two resamples 13 and 19."""
    first = {"real_only": np.array([0.50, 0.52, 0.48]), "real_and_paste": np.array([0.60, 0.60, 0.66])}
    second = {"real_only": np.array([0.40, 0.40, 0.40]), "real_and_paste": np.array([0.60, 0.58, 0.60])}

    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table([first, second]))
    row = next(line for line in console.export_text().splitlines() if "real and paste" in line)

    # AP of each seed, mean, gain, spread sqrt(2 * 5^2), error (19 - 13) / 2
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["real and paste", "60.0 60.0", "60.0", "+15.0", "7.1", "3.0"]
