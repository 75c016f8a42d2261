"""The benchmark of the methods without networks: that it compares like with like."""

import numpy as np
import pytest

from benchmarks import rivals
from stage.core.params import load_params

SIDE, DRAWS = 256, 80


@pytest.mark.parametrize("method", ["draem", "glass", "cutpaste"])
def test_a_transcription_and_our_code_make_the_same_kind_of_pair(method: str) -> None:
    """A ratio between two different tasks would say nothing: both change the photograph inside a mask of the same mean cover, and nothing else."""
    random = np.random.default_rng(0)
    photograph, texture = (random.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(2))
    cover: list[float] = []
    for make in rivals.makers(load_params(), photograph, random)[method]:
        pairs = [make(texture) for _ in range(DRAWS)]
        assert all(pair.mask.any() for pair in pairs)
        # The released loaders blend the whole image in floating point and round down, so that a pixel outside may lose a level.
        assert max(np.abs(pair.image.astype(int) - photograph)[pair.mask == 0].max() for pair in pairs) <= 1
        cover.append(float(np.mean([pair.mask.mean() for pair in pairs])))

    assert cover[0] == pytest.approx(cover[1], rel=0.5)


def test_the_table_has_a_row_for_every_published_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures in the documents could not be found again."""
    monkeypatch.setattr(rivals, "DRAWS", 2)
    table = rivals.transcriptions_table(load_params(), np.zeros((SIDE, SIDE, 3), np.uint8))

    assert [*table.columns[0].cells] == ["draem", "glass", "cutpaste"]
