"""The benchmark of feeding, metrics and their memory: that it runs."""

from pathlib import Path

import pytest

from benchmarks import evaluation, feeding
from benchmarks.evaluation import pictures
from benchmarks.shards import made_rows
from flows.scoring import read_mixture


def test_both_readers_get_the_same_pairs(tmp_path: Path) -> None:
    """The ratio would compare other work, or an export that mmsegmentation takes for one without defects."""
    pairs = pictures(3, 64)

    places = feeding.lay_out(pairs, tmp_path)

    ours = read_mixture({places.samples: 1.0}, sources=None)
    theirs = [(one["inputs"].numpy(), one["data_samples"].gt_sem_seg.data.numpy()) for one in feeding.exported_set(places.exported, [])]
    given = [(pair.image.tobytes(), pair.mask.tobytes()) for pair in pairs]
    assert [(pair.image.tobytes(), pair.mask.tobytes()) for pair in (ours[k] for k in range(len(ours)))] == given
    assert [(image[::-1].transpose(1, 2, 0).tobytes(), mask[0].astype("uint8").tobytes()) for image, mask in theirs] == given  # BGR


def test_rows_of_the_shards_benchmark_fit_their_schema() -> None:
    """Figures in docs/workers.md could not be found again: a column was added, and its benchmark broke."""
    assert len({row["sample_id"] for row in made_rows(40)}) == 40


@pytest.mark.slow
def test_benchmark_prints_its_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures in the documents could not be found again."""
    evaluation.main(batches=2, images=1, counts=(2, 4), sides=(1024,))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]

    for rates, ratio in (rows[:2], rows[2:4]):  # whole images, and crops of them
        assert min(*map(float, rates[1].split(" / ")), float(ratio[1])) > 0
    assert float(rows[4][1]) > 0
    assert [row[1].endswith("MiB") for row in rows[5:]] == [True] * 4
    windows, whole = (float(row[1].split()[0]) for row in rows[7:])
    assert 0 < windows < whole  # sliding windows are there to save memory
