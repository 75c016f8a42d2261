"""Which images a training sees, and which its segmenter is scored on: no image is on both sides."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_factory import CATEGORY, build, publish
from source_tree import ROOT

from stage.core.errors import Refusal
from stage.core.params import Params, load_params
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.release.publication import publish_jobs
from stage.release.reader import read_samples, sample_rows
from stage.segmentation.arms import PERFECT, ArmChoice, Training, trainings
from stage.segmentation.bootstrap import EvaluationImage
from stage.segmentation.counts import Counts
from stage.segmentation.data import PERFECT_COUNT, training_data
from stage.segmentation.scores import ALL_TYPES
from stage.segmentation.tables import means_by_arm, side_by_side_table
from stage.synthesis.rows import mixed_masks

TEST = [EvaluationImage(defect, str(number)) for number, defect in enumerate(["dent"] * 4 + ["hole"] * 2)]
WITH_STAGE = ArmChoice("real_and_stage", "stage")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of a miniature category; its catalog lies beside."""
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def catalog(published: Path) -> Path:
    """The category's folder under data/prepare."""
    return next(path for path in published.parents if (path / "data").is_dir()) / "data" / "prepare" / CATEGORY


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "params/real-cpu.yaml")


def digests(pairs: Sequence[Pair]) -> set[str]:
    return {pixel_digest(pair.image) for pair in pairs}


def test_a_fold_is_left_out_of_training_and_scored(catalog: Path, params: Params) -> None:
    """A threshold would be chosen on images that the segmenter had learned by heart."""
    folds = [training_data(catalog, Training(ArmChoice("real_only"), "segformer", 0, fold), None, params) for fold in (0, 1)]
    whole = training_data(catalog, Training(ArmChoice("real_only"), "segformer", 0), None, params)

    for one in folds:
        assert not digests(one.arm.real) & digests(one.defective)
        assert digests(one.arm.real) | digests(one.defective) == digests(whole.arm.real)
    assert digests(folds[0].defective) | digests(folds[1].defective) == digests(whole.arm.real)
    assert not digests(whole.arm.real) & digests(whole.defective)
    assert len(whole.good)


def test_samples_made_from_a_defect_that_is_left_out_are_left_out_too(catalog: Path, published: Path, params: Params) -> None:
    """The pasted copy of a held-out defect would be trained on; fewer real defects would look as good as many."""
    asked: list[Collection[str] | None] = []

    def reader(*, sources: Collection[str] | None) -> Sequence[Pair]:
        asked.append(sources)
        return read_samples(published, accepted_only=False, sources=sources)

    whole, few = (training_data(catalog, Training(WITH_STAGE._replace(few=count), "segformer", 0), reader, params) for count in (0, 1))
    told = [row["mask_sha256"] for row in sample_rows(published, ["mask_sha256"])]

    assert asked[0] is None
    assert len(whole.arm.synthetic) == len(told)
    assert 0 < len(few.arm.synthetic) == sum(digest in asked[1] for digest in told) < len(told)
    assert len(few.arm.real) < len(whole.arm.real)


def test_samples_whose_masks_are_mixed_with_a_left_out_one_are_left_out_too(tmp_path: Path) -> None:
    """The shape of a held-out defect would be known to the arm that is judged on it."""
    factory = build(tmp_path)
    job = factory.job(tmp_path / "spool", method="quilt", mask_source="resampled")
    factory.fill(job)
    publish_jobs([job.folder], tmp_path / "out", lease_s=60.0)
    rows = list(sample_rows(tmp_path / "out", ["source_sha256", "mask_sha256", "choices"]))
    used = [{row["source_sha256"], row["mask_sha256"], *(one.sha256 for one in mixed_masks(row["choices"]))} for row in rows]
    mixed = next(mixed_masks(row["choices"])[0].sha256 for row in rows)
    known = set.union(*used) - {mixed}

    found = read_samples(tmp_path / "out", accepted_only=False, sources=known)

    assert sum(mixed in one for one in used) > 0
    assert len(found) == sum(one <= known for one in used) < len(rows)


def test_few_defects_without_samples_of_their_own_are_trained_alone(catalog: Path, params: Params) -> None:
    """A learning curve would end the run after hours, because no sample was made from its one defect."""

    def reader(*, sources: Collection[str] | None) -> Sequence[Pair]:
        return () if sources is not None else [Pair(np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), np.uint8))]

    assert not training_data(catalog, Training(WITH_STAGE._replace(few=1), "segformer", 0), reader, params).arm.synthetic
    with pytest.raises(Refusal, match="Expected accepted samples of stage"):
        training_data(catalog, Training(WITH_STAGE, "segformer", 0), lambda *, sources: (), params)


def test_perfect_samples_are_drawn_and_never_of_photographs(params: Params, tmp_path: Path, catalog: Path) -> None:
    """The headroom would be measured on the data set's own images, or be claimed for photographs, of which nobody can draw more."""
    perfect = Training(ArmChoice("real_and_perfect", PERFECT), "segformer", 0)
    photographs = params.model_copy(update={"prepare": params.prepare.model_copy(update={"layout": "mvtec"})})
    with pytest.raises(Refusal, match="Expected drawn data for arm perfect, found photographs"):
        training_data(catalog, perfect, None, photographs)

    assert "perfect" in load_params(ROOT / "params.yaml").segment.arms
    assert PERFECT_COUNT == 48


def means_of(scores: pd.DataFrame, metric: str) -> dict[tuple[str, int], float]:
    """The mean over seeds by arm and number of real defects per type."""
    rows = scores[(scores.defect == ALL_TYPES) & (scores.metric == metric)]
    return rows.groupby(["arm", "real_per_type"]).value.mean().to_dict()


def scored(folder: Path, params: Params) -> dict[Training, Path]:
    """The counts of trainings on two seeds and two folds, whose predictions the folds put higher than the test images do."""
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[:, 4:9, 3:11] = 1
    results: dict[Training, Path] = {}
    for number, one in enumerate(
        trainings(
            ["stage"], params.segment.model_copy(update={"seeds": 2, "arms": (), "few": (1,)}), ["dent", "dent", "hole"], ["a", "b", "c"]
        )
    ):
        results[one] = folder / str(number)
        results[one].mkdir()
        shift = 3.0 if one.fold >= 0 else 0.0  # the folds ask for a threshold that the test images do not
        scores = rng.normal(size=masks.shape) + 3.0 * (2.0 * masks - 1) + shift
        Counts.of(zip(scores, masks, strict=True)).write(results[one] / "defective.npz")
        Counts.of(zip(scores - 6, 0 * masks, strict=True)).write(results[one] / "good.npz")
    return results


def test_a_type_differs_by_its_own_metrics_and_one_part_says_nothing(tmp_path: Path, params: Params) -> None:
    """A type's gain would be of other images; or that of a single test image look certain."""
    results = scored(tmp_path, params)
    tables = side_by_side_table("part", results, dict.fromkeys(results, "digest"), TEST, seed=0)
    rows = tables.scores[(tables.scores.defect == "dent") & (tables.scores.metric == "iou") & (tables.scores.real_per_type == 0)]
    means = rows.groupby("arm").value.mean()
    dent = tables.types[(tables.types.metric == "iou") & (tables.types.defect == "dent")].iloc[0]
    single = [image._replace(group="one") if image.defect == "hole" else image for image in TEST]

    assert [*zip(tables.types.arm, tables.types.defect, tables.types.metric, strict=True)] == [
        ("real_and_stage", defect, metric) for defect in ("dent", "hole") for metric in ("ap", "iou")
    ]
    assert dent.difference == pytest.approx(means["real_and_stage"] - means["real_only"], abs=1e-6)
    assert dent.low < dent.difference < dent.high
    assert set(side_by_side_table("part", results, dict.fromkeys(results, "digest"), single, seed=0).types.defect) == {"dent"}


def test_without_folds_few_defects_are_compared_at_one_half_as_all_are(tmp_path: Path, params: Params) -> None:
    """The IoU of a learning curve would be lost where no threshold was chosen."""
    results = {one: place for one, place in scored(tmp_path, params).items() if one.fold < 0}
    tables = side_by_side_table("part", results, dict.fromkeys(results, "digest"), TEST, seed=0)

    assert means_of(tables.scores, "iou") == means_of(tables.scores, "iou_half")
    assert {*tables.differences[tables.differences.real_per_type == 1].metric} == {"ap", "iou"}


def test_the_tables_have_every_training_and_thresholds_of_the_folds(tmp_path: Path, params: Params) -> None:
    """A number would be of another arm or seed, or a threshold be taken from the test part or from more defects than an arm may have."""
    results = scored(tmp_path, params)
    tables = side_by_side_table("part", results, dict.fromkeys(results, "digest"), TEST, seed=0)
    kept = [one for one in results if one.fold < 0]

    assert len(tables.scores.drop_duplicates(["segmenter", "arm", "real_per_type", "seed"])) == len(kept) == 8
    assert set(tables.scores.defect) == {ALL_TYPES, "dent", "hole"}
    assert (tables.scores[tables.scores.metric == "threshold"].value > 0.8).all()
    means = tables.scores[tables.scores.defect == ALL_TYPES].groupby("metric").value.mean()
    assert means["iou"] < means["iou_half"]
    few = tables.scores[tables.scores.real_per_type == 1]
    assert {"ap", "f1", "iou_half", "acc_half"} <= {*few.metric}
    assert not {"iou", "acc", "threshold", "false_alarm_images", "false_alarm_pixels"} & {*few.metric}
    assert {*tables.differences[tables.differences.real_per_type == 1].metric} == {"ap"}
    told = tables.differences[tables.differences.draw == -1].drop_duplicates(["arm", "real_per_type", "against"])
    assert [*zip(told.arm, told.real_per_type, told.against, strict=True)] == [
        ("real_and_stage", *both) for both in ((0, 0), (1, 0), (1, 1))
    ]
    metric = means_of(tables.scores, "ap")
    for few, against in ((0, 0), (1, 0), (1, 1)):
        found = tables.differences[(tables.differences.metric == "ap") & (tables.differences.draw == -1)]
        found = found[(found.real_per_type == few) & (found.against == against)].difference.item()
        assert found == pytest.approx(metric["real_and_stage", few] - metric["real_only", against], abs=1e-6)
    assert set(means_by_arm(tables.scores, "efficientnet_lite0")) == {"real_only", "real_and_stage"}
    other = side_by_side_table("nut", results, dict.fromkeys(results, "digest"), TEST, seed=0).differences
    assert not other.difference.equals(tables.differences.difference)  # categories draw independently, as their average takes for granted
    pd.testing.assert_frame_equal(
        tables.differences, side_by_side_table("part", results, dict.fromkeys(results, "digest"), TEST, seed=0).differences
    )
