"""Which arm a user is told to train on."""

from pathlib import Path

import numpy as np
import pytest

from stage.core.errors import CorruptFileError
from stage.segmentation.arms import ArmChoice, Training
from stage.segmentation.bootstrap import EvaluationImage
from stage.segmentation.choice import Choice, Gain, HeldOut, flattered_arms, held_out
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import pixel_scores

MOST, PASSED_OVER = "it gains most", "a trained method gains more, but less than a standard error more"
OF_WHAT_IS_CERTAIN = "it gains most of what gains more than two standard errors"
LESS_SURELY = "it gains most, if not by two standard errors, and a trained method gains more than two"
FLATTERED = flattered_arms(["stage", "paste"])
IMAGES = [EvaluationImage("crack", f"c{number}") for number in range(8)] + [EvaluationImage("dent", f"d{number}") for number in range(8)]


def counts(contrast: float, *, seed: int = 0, images: int = len(IMAGES)) -> Counts:
    """What a segmenter says of `images` images of 16 px with a square defect: the higher its contrast, the better it is."""
    random = np.random.default_rng(seed)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:10, 4:10] = 1
    return Counts.of((random.normal(size=mask.shape) + contrast * mask, mask) for _ in range(images))


def chosen(**contrasts: float) -> Choice:
    """The choice from two folds in which the arms have these contrasts."""
    folds = [HeldOut(IMAGES, {arm: counts(contrast, seed=seed) for arm, contrast in contrasts.items()}) for seed in (0, 1)]
    return Choice.of(folds, np.random.default_rng(0), FLATTERED)


@pytest.mark.parametrize(
    ("contrasts", "expected"),
    [
        ({"real_only": 1.0, "real_and_stage": 2.0, "real_and_paste": 1.5}, "real_and_stage"),
        ({"real_only": 1.0, "real_and_stage": 0.9, "real_and_paste": 1.5}, "real_and_paste"),
        ({"real_only": 1.0, "real_and_stage": 1.0, "real_and_paste": 0.5}, "real_only"),
        ({"real_only": 1.0}, "real_only"),
        ({"real_only": 1.0, "real_and_perfect": 3.0, "real_and_paste": 1.5}, "real_and_paste"),  # nobody has perfect samples
    ],
)
def test_the_arm_that_helps_most_is_chosen_or_none(contrasts: dict[str, float], expected: str) -> None:
    """A user would get samples that cost more than they bring."""
    assert chosen(**contrasts).arm == expected


@pytest.mark.parametrize(
    ("gains", "expected", "why"),
    [
        ({"real_and_stage": (0.010, 0.004), "real_and_paste": (0.008, 0.006)}, "real_and_paste", PASSED_OVER),
        ({"real_and_stage": (0.010, 0.004), "real_and_paste": (0.005, 0.002)}, "real_and_stage", MOST),
        (
            {"real_and_mixture": (0.013, 0.006), "real_and_stage": (0.010, 0.005), "real_and_paste": (0.008, 0.006)},
            "real_and_paste",
            PASSED_OVER,
        ),
        ({"real_and_paste": (0.010, 0.004), "real_and_quilt": (0.009, 0.004)}, "real_and_paste", MOST),
        ({"real_and_stage": (0.030, 0.010), "real_and_paste": (0.080, 0.050)}, "real_and_paste", LESS_SURELY),
        ({"real_augmented": (0.050, 0.040), "real_and_paste": (0.020, 0.005)}, "real_and_paste", OF_WHAT_IS_CERTAIN),
        ({"real_and_stage": (0.090, 0.050), "real_and_paste": (0.020, 0.005)}, "real_and_paste", OF_WHAT_IS_CERTAIN),
    ],
)
def test_a_trained_network_must_lead_by_an_error(gains: dict[str, tuple[float, float]], expected: str, why: str) -> None:
    """Its samples come of the held-out images too: it would be chosen for what it has seen, and a user train it for nothing."""
    choice = Choice.among({arm: Gain(*gain) for arm, gain in gains.items()}, FLATTERED)

    assert choice.arm == expected
    assert f": {why}. Gains on" in choice.advice


def test_a_choice_of_before_is_read(tmp_path: Path) -> None:
    """`stage results` would ask to restore the file that it cannot read."""
    (tmp_path / "choice.json").write_text('{"arm": "real_only", "gains": {}}')

    assert Choice.read(tmp_path / "choice.json") == Choice("real_only", {}, [])


def test_a_mixture_without_a_trained_method_is_not_flattered() -> None:
    """Pasted defects mixed with textures would be passed over for what only a trained method has seen."""
    gains = {"real_and_mixture": Gain(0.020, 0.005), "real_and_paste": Gain(0.018, 0.005)}

    assert Choice.among(gains, flattered_arms(["paste", "draem"])).arm == "real_and_mixture"
    assert Choice.among(gains, flattered_arms(["stage", "draem"])).arm == "real_and_paste"


def test_a_gain_is_the_mean_over_types_and_folds() -> None:
    """The sentence would state another number than what was measured."""
    gain = chosen(real_only=1.0, real_and_paste=1.5).gains["real_and_paste"]
    ap = [
        [pixel_scores(counts(contrast, seed=seed).of_images(half).total())["ap"] for contrast in (1.0, 1.5)]
        for seed in (0, 1)
        for half in (range(8), range(8, 16))  # cracks, dents
    ]

    assert gain.ap == pytest.approx(np.mean([paste - alone for alone, paste in ap]), abs=1e-6)
    assert 0 < gain.error < gain.ap


def test_a_type_of_few_pixels_counts_as_much_as_another() -> None:
    """One large defect that nothing helps would hide what every small one gains, and the user would be told to leave the samples."""
    images = [EvaluationImage("stain", f"s{number}") for number in range(4)] + [EvaluationImage("pit", f"p{number}") for number in range(4)]
    random = np.random.default_rng(0)

    def of(contrast: float) -> Counts:
        stain, pit = np.zeros((2, 64, 64), np.uint8)
        stain[4:60, 4:60], pit[30:34, 30:34] = 1, 1
        return Counts.of((random.normal(size=mask.shape) + seen * mask, mask) for mask, seen in [(stain, 1.0)] * 4 + [(pit, contrast)] * 4)

    choice = Choice.of([HeldOut(images, {"real_only": of(1.0), "real_and_paste": of(5.0)})] * 2, np.random.default_rng(0), FLATTERED)

    assert choice.arm == "real_and_paste"
    assert choice.gains["real_and_paste"].ap > 0.2


def test_a_fold_is_scored_by_segmenters_that_have_not_seen_it(tmp_path: Path) -> None:
    """An image that was trained on would choose what remembers best."""
    arms = (ArmChoice("real_only"), ArmChoice("real_and_paste", "paste"))
    planned = [Training(arm, "efficientnet_lite0", 0, fold) for arm in arms for fold in (-1, 0, 1)]
    planned += [Training(arms[0], "stdc1", 0, fold) for fold in (0, 1)]
    results = {one: tmp_path / str(number) for number, one in enumerate(planned)}
    for one, place in results.items():
        place.mkdir()
        counts(float(one.fold), images=8).write(place / "defective.npz")

    folds = held_out(results, IMAGES, 2)

    assert [len(fold.images) for fold in folds] == [8, 8]
    assert sorted(image for fold in folds for image in fold.images) == sorted(IMAGES)
    for number, fold in enumerate(folds):
        assert {*fold.counts} == {"real_only", "real_and_paste"}
        assert all(np.array_equal(found.levels, counts(float(number), images=8).levels) for found in fold.counts.values())


def test_one_part_a_fold_is_not_enough(tmp_path: Path) -> None:
    """Any difference would look certain, since nothing varies."""
    results = {Training(ArmChoice("real_only"), "efficientnet_lite0", 0, fold): tmp_path / str(fold) for fold in (0, 1)}
    for place in results.values():
        place.mkdir()
        counts(1.0, images=2).write(place / "defective.npz")

    assert held_out(results, [EvaluationImage("crack", name) for name in "aabb"], 2) == []


def test_one_image_of_each_type_is_not_certain() -> None:
    """Within its type, an only image is always drawn."""
    images = [EvaluationImage(name, name) for name in "abcd"]
    folds = [HeldOut(images, {arm: counts(contrast, images=4) for arm, contrast in {"real_only": 1.0, "real_and_paste": 1.1}.items()})]

    assert Choice.of(folds, np.random.default_rng(0), FLATTERED).gains["real_and_paste"].error > 0


def test_without_folds_nothing_is_chosen(tmp_path: Path) -> None:
    """The demo, which holds nothing out, would end in an error, or be told what nobody measured."""
    assert held_out({Training(ArmChoice("real_only"), "efficientnet_lite0", 0): tmp_path}, IMAGES, 0) == []
    assert Choice.read(tmp_path / "choice.json") is None


def test_the_advice_says_what_to_do_and_why(tmp_path: Path) -> None:
    """A user would have to read a table to know which weights to take."""
    choice = chosen(real_only=1.0, real_and_stage=0.9, real_and_paste=1.5)
    choice.write(tmp_path / "choice.json")
    read = Choice.read(tmp_path / "choice.json")

    assert read == choice
    assert choice.advice.startswith("Train on real and paste: it gains most. Gains on held-out images")
    assert "which flatters it" in choice.advice
    assert "flatters" not in chosen(real_only=1.0, real_and_paste=1.5).advice
    assert chosen(real_only=1.0, real_and_paste=0.5).advice.startswith(
        "Train on real defects alone: nothing gains more than two standard errors"
    )


@pytest.mark.parametrize("content", ["", "[]", '{"arm": "real_only"}', '{"arm": "real_only", "gains": {"a": {"ap": 1}}}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    """A damaged file would end in a traceback."""
    (tmp_path / "choice.json").write_text(content)

    with pytest.raises(CorruptFileError, match="dvc checkout --force segment"):
        Choice.read(tmp_path / "choice.json")
