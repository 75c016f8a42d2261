"""The verdict's measure: it knows what nothing looks like, judges every defect, and names what a sample is a copy of."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from small_factory import Factory, build, verdict

from stage.core.synthesis_params import VerdictRule
from stage.datasets.pairs import Pair
from stage.datasets.table import read_catalog
from stage.datasets.windows import turn
from stage.jobs.job import JUDGE
from stage.synthesis.calibration import calibrate, fit_discriminant, threshold_of
from stage.synthesis.copies import nearest, patch
from stage.synthesis.judge import Judge, normal_share, standardised
from stage.synthesis.method import Rendered
from stage.synthesis.null import MATCHED, NORMAL, Paster, nothing_of
from stage.synthesis.quality import verdict_on

RULE = VerdictRule(normal_pass=0.1, pastes=10)
DRAW = 2  # other pastes than those that calibrate


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"), side=48)


@pytest.fixture(scope="module")
def judge(factory: Factory) -> Judge:
    return calibrate(factory.recipe(verdict=RULE), read_catalog(factory.catalog), factory.source())


@pytest.mark.parametrize(
    ("method", "start", "expected"),
    [
        ("paste", "noise", MATCHED),
        ("quilt", "noise", MATCHED),
        ("stage", "noise", NORMAL),
        ("stage", "defect", MATCHED),
        ("draem", "defect", NORMAL),
    ],
)
def test_nothing_is_pasted_as_the_method_pastes(factory: Factory, method: str, start: str, expected: tuple[str, ...]) -> None:
    """Where photographs differ in light, nothing in its own colours is easily seen, and real defects of matched ones would be rejected."""
    assert nothing_of(factory.recipe(start=start).model_copy(update={"method": method})) == expected


def test_nothing_is_rejected_and_real_defects_pass(factory: Factory, judge: Judge) -> None:
    """Labels over normal texture would teach a segmenter that normal pixels are defects. Fresh pastes, which calibration has not seen."""
    passed: dict[str, list[bool]] = {"real": [], "normal": []}
    paster = Paster(factory.recipe(), read_catalog(factory.catalog), factory.source())
    for one in (one for drawn in paster.drawn(DRAW, 10) for one in paster.pastes(drawn)):
        is_normal = one.kind in NORMAL
        found = verdict_on(Rendered(Pair(one.image, one.mask), reach=2), one.background, one.defect, judge)
        passed["normal" if is_normal else "real"].append(found.verdict == "accepted")
        assert is_normal == (one.photograph in factory.source().backgrounds)

    assert np.mean(passed["real"]) >= 0.9
    assert np.mean(passed["normal"]) <= 0.25  # 0.1 is meant, of 60 pastes


def test_one_normal_defect_among_others_rejects_the_sample(factory: Factory, judge: Judge) -> None:
    """A label would stand where nothing can be seen, because the others stand out on average."""
    defect = judge.records[0].defect
    background = next(iter(factory.source().backgrounds.values())).image
    mask = np.zeros(background.shape[:2], np.uint8)
    mask[8:14, 8:14] = mask[30:36, 30:36] = 1
    both = np.where(mask[..., None] > 0, 255 - background // 4, background)
    one = both.copy()
    one[30:36, 30:36] = background[30:36, 30:36]

    two, half = (judge.looks(Pair(image, mask), background, defect) for image in (both, one))

    assert two.margins.shape == half.margins.shape == (2,)
    assert two.margins.min() > 0 > half.margins[1]
    found = verdict_on(Rendered(Pair(one, mask)), background, defect, judge)
    assert (found.visible, found.verdict) == (1, "rejected")
    assert found.reason.startswith("looks normal: 1 of 2 defects, ")
    assert found.margin == half.margins[1]
    assert (two.looks_normal, half.looks_normal) == (0, 0.5)


def test_a_job_has_the_same_measure_again_and_its_batches_know_it(factory: Factory, judge: Judge, tmp_path: Path) -> None:
    """Workers would disagree, or a night without change reject other samples, or verdicts by two measures lie side by side."""
    on, off = (factory.job(tmp_path / name, verdict=rule) for name, rule in (("on", RULE), ("off", verdict(1.0))))

    assert on.inputs["judge"] != off.inputs["judge"] == ""
    assert off.judge is None
    assert on.judge is not None  # calibrated again, written and read
    assert on.judge.records == judge.records
    assert np.array_equal(on.judge.discriminant.weights, judge.discriminant.weights)
    assert np.array_equal(on.judge.patches, judge.patches)


@pytest.mark.parametrize("rows", [20, 3000])
def test_the_discriminant_is_a_ridge_regression_whatever_is_more(rows: int) -> None:
    """With `verdict.pastes: 10000`, a matrix of all pairs of pastes would need 12.8 GB. Against least squares of the augmented system."""
    features = np.random.default_rng(0).normal(size=(rows, 40))
    tracemalloc.start()
    found = fit_discriminant(features[: rows // 4] + 1, features[rows // 4 :])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    x = standardised(np.concatenate([features[: rows // 4] + 1, features[rows // 4 :]]), found.mean, found.deviation)
    y = np.arange(rows) < rows // 4
    root = np.sqrt(np.where(y, 0.5 / (rows // 4), 0.5 / (rows - rows // 4)))[:, None]
    design = np.concatenate([np.hstack([root * x, root]), np.eye(80, 81)])  # the offset is not held small
    expected = np.linalg.lstsq(design, np.concatenate([root[:, 0] * y, np.zeros(80)]))[0]
    assert np.allclose([*found.weights, found.offset], expected, atol=1e-9)
    assert rows < 80 or peak < rows * rows * 8 / 2


def test_one_normal_photograph_is_enough_to_plan(factory: Factory) -> None:
    """A category's first evening would end in a ZeroDivisionError: there is no nothing on other backgrounds to compare with."""
    catalog = read_catalog(factory.catalog)
    normal = catalog[(catalog.defect == "good") & (catalog.split == "train")].index
    judge = calibrate(factory.recipe(verdict=verdict(0.5)), catalog.drop(normal[1:]), factory.source())

    assert all(0 <= record.unseen_pass <= 1 for record in judge.records)
    assert all(np.isfinite(values).all() for values in judge.discriminant)


def test_two_threads_measure_what_one_does(factory: Factory) -> None:
    """A machine with one core would reject other samples."""
    given = factory.recipe(verdict=VerdictRule(normal_pass=0.1, pastes=4)), read_catalog(factory.catalog), factory.source()
    one = calibrate(*given)
    torch.set_num_threads(2)
    two = calibrate(*given)

    assert torch.get_num_threads() == 2
    assert two.records == one.records
    assert all(np.array_equal(*values) for values in zip(one.discriminant, two.discriminant, strict=True))


def test_methods_that_paste_alike_share_a_measure(factory: Factory, tmp_path: Path) -> None:
    """Every method more would cost another calibration, which takes longer than its samples."""
    first = factory.strict_job(tmp_path, 7.0)  # of stage from noise; no calibration gives what this one was changed to
    draem, paste = (factory.job(tmp_path, method=method, verdict=verdict(0.5)) for method in ("draem", "paste"))

    assert draem.inputs["judge"] == first.inputs["judge"] != paste.inputs["judge"]
    assert draem.digests[JUDGE] == first.digests[JUDGE] != paste.digests[JUDGE]


def test_a_turned_copy_is_found_by_name_and_another_defect_is_farther() -> None:
    """Nobody would know that a method only copies its training data."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    masks = (ndimage.gaussian_filter(random.normal(size=(3, 40, 40)), (0, 3, 3)) > 0.1).astype(np.uint8)
    patches = np.stack([patch(*pair) for pair in zip(images, masks, strict=True)])

    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for k in range(8):
            one = patch(turn(np.clip(image.astype(int) - 9, 0, 255).astype(np.uint8), k), turn(mask, k))
            found = nearest(one, patches)
            assert found.number == number
            assert nearest(one, np.delete(patches, number, axis=0)).distance > 3 * found.distance


def test_no_more_than_the_share_exceeds_the_threshold() -> None:
    """`normal_pass: 0.05` would let more through. Of exchangeable scores, the share is kept on average over calibrations."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(300, 2, 100))

    shares = [(new >= threshold_of(pd.Series(old), 0.05)).mean() for old, new in scores]

    assert 0.035 < np.mean(shares) <= 0.052


def test_labels_softened_inward_look_more_normal() -> None:
    """The share would not show the very fault that it was made for: here a rim of 2 px at a third and two thirds of the strength."""
    background = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[4:16, 4:16] = 1
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1, None]
    hard, soft = (np.rint(100 + 60 * np.minimum(1, depth / width)).astype(np.uint8) for width in (1, 3))

    assert normal_share(Pair(hard, mask), background, 25.0) == 0
    assert normal_share(Pair(soft, mask), background, 25.0) == pytest.approx(44 / 144, abs=1e-4)
