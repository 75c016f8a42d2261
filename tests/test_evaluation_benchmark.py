"""The benchmark of feeding, metrics and their memory: that it runs."""

import pytest

from benchmarks import evaluation


@pytest.mark.slow
def test_benchmark_prints_its_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures in the documents could not be found again."""
    evaluation.main(batches=2, images=1, counts=(2, 4), sides=(1024,))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]

    ours, theirs = map(float, rows[0][1].split(" / "))
    assert min(ours, theirs, float(rows[1][1]), float(rows[2][1])) > 0
    assert [row[1].endswith("MiB") for row in rows[3:]] == [True] * 4
    windows, whole = (float(row[1].split()[0]) for row in rows[5:])
    assert 0 < windows < whole  # sliding windows are there to save memory
