import importlib.metadata
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_factory import publish_rows
from source_tree import ROOT
from test_report import sample_rows

from flows.segment import CATALOGS, arm_key
from stage.core.params import Segment, load_params
from stage.core.progress import Interrupted, stop_on_signals
from stage.datasets.examples import CATALOG
from stage.datasets.pairs import Pair
from stage.segmentation.arms import Arm, BatchCounts, augment, batch_at, composition
from stage.segmentation.evaluation import evaluate_arm, predict
from stage.segmentation.segmenters import build_segmenter
from stage.segmentation.training import train_segmenter

TINY = Segment(
    model="segformer",
    width=8,
    depths=(1, 1, 1, 1),
    image_size=32,
    iterations=6,
    batch=4,
    learning_rate=3e-3,
    normal_share=0.25,
    real_share=0.34,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def square(rng: np.random.Generator, *, size: int = 32, edge: int = 10, defect: bool = True) -> Pair:
    """Noisy grey, and a bright square somewhere on it."""
    image = rng.normal(100, 8, (size, size, 3))
    mask = np.zeros((size, size), np.uint8)
    if defect:
        row, column = rng.integers(0, size - edge, 2)
        mask[row : row + edge, column : column + edge] = 1
        image[mask == 1] += 90
    return Pair(np.clip(image, 0, 255).astype(np.uint8), mask)


def squares(count: int, seed: int, *, defect: bool = True, size: int = 32) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [square(rng, size=size, defect=defect) for _ in range(count)]


def arm(name: str = "real_and_stage", *, synthetic: int = 5) -> Arm:
    return Arm(name, squares(3, 1), squares(synthetic, 2), squares(4, 3, defect=False))


def train(arm: Arm, folder: Path, params: Segment = TINY, *, seed: int = 5, save_every_s: float = 1e9) -> pd.DataFrame:
    return train_segmenter(
        arm, params, seed=seed, device="cpu", output=folder / "weights.safetensors", state=folder / "state", save_every_s=save_every_s
    )


def same_weights(left: Path, right: Path) -> bool:
    ours, theirs = load_file(left / "weights.safetensors"), load_file(right / "weights.safetensors")
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Disturbed(Sequence[Pair]):
    """Pairs that do something else when an item is read for the `at`-th time."""

    def __init__(self, pairs: Sequence[Pair], at: int, action: Callable[[], object]) -> None:
        self.pairs, self.left, self.action = pairs, at, action

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        self.left -= 1
        if self.left == 0:
            self.action()
        return self.pairs[index]


def power_cut() -> None:
    raise OSError("the power is gone")


@pytest.fixture
def _signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_on_signals()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_mit_b0_has_the_published_size():
    """Otherwise `width: 32, depths: [2, 2, 2, 2]` would not be SegFormer-B0, which has 3.7 M parameters (3.72 M with two classes)."""
    with torch.random.fork_rng():
        model = build_segmenter(TINY.model_copy(update={"width": 32, "depths": (2, 2, 2, 2)}))
    import mmseg
    from mmseg.apis import init_model

    with warnings.catch_warnings(action="ignore"):
        theirs = init_model(
            Path(mmseg.__file__).parent / ".mim/configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", device="cpu"
        )
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items() if "conv_seg" not in name}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items() if "conv_seg" not in name} == shapes
    assert sum(weight.numel() for weight in model.parameters()) == 3_715_682


def test_batches_have_the_same_normal_part_in_both_arms():
    """Otherwise the comparison would measure the normal images or the augmentation, not the synthetic samples."""
    params = TINY.model_copy(update={"batch": 8})
    alone, both = arm("real_only", synthetic=0), arm()
    assert composition(alone, params) == BatchCounts(normal=2, real=6, synthetic=0)
    assert composition(both, params) == BatchCounts(normal=2, real=2, synthetic=4)
    for iteration in range(5):
        left, right = (batch_at(one, params, iteration, seed=7) for one in (alone, both))
        assert len(left) == len(right) == 8
        for mine, other in zip(left[:2], right[:2], strict=True):
            assert np.array_equal(mine.image, other.image)
            assert not mine.mask.any()
        assert all(pair.mask.any() for pair in left[2:] + right[2:])


def test_every_pair_comes_once_before_any_comes_again():
    """Otherwise, with a handful of real defects, some would hardly ever be seen."""
    areas = [np.arange(16).reshape(4, 4) <= k for k in range(6)]  # an area of k + 1 pixels survives flips and rotations
    one = Arm("real_only", [Pair(np.zeros((4, 4, 3), np.uint8), area.astype(np.uint8)) for area in areas], [], [])
    params = TINY.model_copy(update={"normal_share": 0.0, "batch": 4})
    seen = [int(pair.mask.sum()) for iteration in range(6) for pair in batch_at(one, params, iteration, seed=0)]
    rounds = [seen[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(turn) == [1, 2, 3, 4, 5, 6] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1


def test_augmentation_keeps_image_and_mask_together():
    """Otherwise masks would be flipped away from their defects."""
    for seed in range(20):
        pair = augment(square(np.random.default_rng(seed)), np.random.default_rng(seed))
        inside, outside = pair.image[pair.mask == 1], pair.image[pair.mask == 0]
        assert pair.mask.sum() == 100
        assert inside.mean() - outside.mean() > 60
        assert pair.image.dtype == pair.mask.dtype == np.uint8


@pytest.mark.parametrize(("kind", "broken"), [("normal", arm()._replace(normal=[])), ("real", arm()._replace(real=[]))])
def test_an_empty_pool_is_named(kind: str, broken: Arm, tmp_path: Path):
    """Otherwise a user without normal images would see a division by zero."""
    with pytest.raises(ValueError, match=f"Expected {kind} images for arm real_and_stage"):
        train(broken, tmp_path)


def test_it_learns_a_bright_square_on_unseen_images(tmp_path: Path):
    """Otherwise the whole line from pairs to IoU could be miswired and still print numbers."""
    params = TINY.model_copy(update={"iterations": 80, "batch": 8, "image_size": 64})
    one = Arm("real_only", squares(8, 1), [], squares(4, 3, defect=False))
    curve = train(one, tmp_path, params)
    scores, _ = evaluate_arm(
        tmp_path / "weights.safetensors", params, defective=squares(10, 11), good=squares(6, 12, defect=False), device="cpu"
    )
    assert scores["iou"] > 0.8
    assert min(scores[name] for name in ("auroc", "ap", "pro", "image_auroc", "image_ap")) > 0.9
    assert curve["loss"].iloc[-10:].mean() < curve["loss"].iloc[:10].mean() / 2


def stopped_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("action", "error", "save_every_s"), [(power_cut, OSError, 0.0), (stopped_by_signal, Interrupted, 1e9)])
def test_a_resumed_training_equals_an_uninterrupted_one(
    action: Callable[[], None], error: type[Exception], save_every_s: float, tmp_path: Path
):
    """Otherwise a result would depend on whether someone pressed Ctrl-C, or on when the machine went down."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = train(arm(), whole)
    with pytest.raises(error):
        # The pool is read once per iteration: this is the fourth of six.
        train(arm()._replace(normal=Disturbed(arm().normal, 4, action)), parts, save_every_s=save_every_s)
    assert (parts / "state").is_file()
    assert not (parts / "weights.safetensors").exists()
    pd.testing.assert_frame_equal(train(arm(), parts), uninterrupted, check_exact=True)
    assert same_weights(whole, parts)


def test_other_data_or_parameters_do_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise weights trained on yesterday's images would be finished on today's and reported as theirs: each has a key of its own."""
    monkeypatch.chdir(tmp_path)
    catalog, samples, params = CATALOGS / "part" / CATALOG, tmp_path / "samples", load_params(ROOT / "params.yaml")
    catalog.parent.mkdir(parents=True)
    catalog.write_text("yesterday's images")
    publish_rows(sample_rows("part", "crack", "stage"), 1, samples)
    key = arm_key("part", samples, params)
    longer = params.segment.model_copy(update={"iterations": params.segment.iterations + 1})
    others = [
        arm_key("part", None, params),
        arm_key("part", samples, params.model_copy(update={"segment": longer})),
        arm_key("part", samples, params.model_copy(update={"seed": params.seed + 1})),
    ]
    stricter = [row | {"verdict": "rejected"} if row["ordinal"] == 1 else row for row in sample_rows("part", "crack", "stage")]
    for rows in (stricter, sample_rows("part", "crack", "paste")):
        publish_rows(rows, 1, samples)
        others.append(arm_key("part", samples, params))
    catalog.write_text("today's images")
    others.append(arm_key("part", samples, params))

    assert len({key, *others}) == 1 + len(others)


def test_another_mmsegmentation_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DVC would notice an upgrade and run again, and the store would hand back what the old version had made."""
    monkeypatch.chdir(tmp_path)
    params, catalog = load_params(ROOT / "params.yaml"), CATALOGS / "part" / CATALOG
    catalog.parent.mkdir(parents=True)
    catalog.write_text("images")
    before = arm_key("part", None, params)
    true = importlib.metadata.version
    monkeypatch.setattr("stage.core.work.version", lambda name: "0" if name == "onedl-mmsegmentation" else true(name))

    assert arm_key("part", None, params) != before


def test_training_is_seeded_and_leaves_the_callers_generator_alone(tmp_path: Path):
    """Otherwise two runs of the same parameters would print different numbers, or disturb what comes after."""
    before = torch.get_rng_state()
    first = train(arm(), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert first.equals(train(arm(), tmp_path / "b"))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not first.equals(train(arm(), tmp_path / "c", seed=6))


def test_predictions_are_probabilities_at_the_pairs_own_size(tmp_path: Path):
    """Otherwise scores and masks could not be compared pixel by pixel, or would depend on the batch they came in."""
    train(arm(), tmp_path)
    weights, pairs = tmp_path / "weights.safetensors", squares(5, 4, size=24)
    scores = predict(weights, TINY, pairs, device="cpu", batch=5)
    assert scores.shape == (5, 24, 24)
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert np.array_equal(predict(weights, TINY, pairs, device="cpu", batch=5), scores)
    assert np.allclose(predict(weights, TINY, pairs, device="cpu", batch=2), scores, atol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    """Otherwise a change of width without a new training would end in a page of tensor names."""
    train(arm(), tmp_path)
    with pytest.raises(ValueError, match="Expected weights of a segformer of width 16"):
        predict(tmp_path / "weights.safetensors", TINY.model_copy(update={"width": 16}), squares(1, 0), device="cpu", batch=1)
