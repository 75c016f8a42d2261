"""Samples of several methods in one arm."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from stage.core.errors import ConfigError
from stage.core.params import load_params
from stage.datasets.pairs import Pair
from stage.segmentation.arms import arm_choices, compared_arms
from stage.segmentation.mixture import Mixture

ROOT = Path(__file__).parents[1]


def pairs(kind: int, count: int) -> list[Pair]:
    """Pairs of one pixel each, which says of what kind and which it is."""
    return [Pair(np.array([[[kind, index, 0]]], np.uint8), np.ones((1, 1), np.uint8)) for index in range(count)]


@pytest.mark.parametrize(
    ("sizes", "shares", "expected"),
    [
        ((10, 10), (1, 1), (10, 10)),
        ((10, 10), (1, 3), (3, 10)),
        ((12, 4), (2, 1), (8, 4)),
        ((12, 4), (0.2, 0.1), (8, 4)),  # their ratios count
        ((7,), (1,), (7,)),
        ((5, 0), (1, 1), (5, 0)),  # of a fold that no sample of a method fits
        ((200, 200), (1, 0.0001), (200, 1)),
    ],
)
def test_every_method_has_its_share(sizes: tuple[int, ...], shares: tuple[float, ...], expected: tuple[int, ...]) -> None:
    """The arm would be one of other shares than params.yaml and the report say."""
    mixture = Mixture([pairs(kind, size) for kind, size in enumerate(sizes)], shares)
    kinds = [int(pair.image[0, 0, 0]) for pair in mixture]

    assert tuple(kinds.count(kind) for kind in range(len(sizes))) == expected
    assert len({(int(pair.image[0, 0, 0]), int(pair.image[0, 0, 1])) for pair in mixture}) == len(mixture)


def test_a_share_is_spread_over_all_types() -> None:
    """Samples are sorted by defect type: the first tenth of them would hold one type alone."""
    thinned = [int(pair.image[0, 0, 1]) for pair in Mixture([pairs(0, 100), pairs(1, 10)], (1, 1))][:10]

    assert thinned == [*range(0, 100, 10)]


def test_a_mixture_is_one_more_arm() -> None:
    """It would be asked for and not be trained, or take the place of a method."""
    methods = compared_arms(["stage", "paste"], {"stage": 1, "paste": 2})

    assert [choice.name for choice in arm_choices(methods, [])] == ["real_only", "real_and_stage", "real_and_paste", "real_and_mixture"]
    assert compared_arms(["stage", "paste"], {}) == ("stage", "paste")


@pytest.mark.parametrize("mixture", [{"stage": 1}, {"stage": 1, "cut": 1}, {"stage": 1, "paste": 0}, {"stage": 1, "paste": -2}])
def test_shares_of_what_is_not_made_are_refused(tmp_path: Path, mixture: dict[str, float]) -> None:
    """A run would end after hours, in its first arm of a mixture."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["segment"]["mixture"] = mixture
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))

    with pytest.raises(ConfigError, match=r"segment\.mixture"):
        load_params(tmp_path / "params.yaml")
