import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniatures import PATCH, SIZE, defect_images, interruptible, small_params
from torch import nn

from stage.core.errors import ConfigError
from stage.core.model_params import Crop
from stage.core.progress import Interrupted
from stage.datasets.windows import cut, window
from stage.model.base import load_base
from stage.model.examples import Examples, through_windows
from stage.model.pretraining import TEXT_LENGTH, WeightAverage, pretrain, untrained
from stage.model.pretraining_loss import PretrainingLoss, drawn_timesteps, pick, turned
from stage.model.schedule import NoiseSchedule

CELLS = SIZE // PATCH
WHOLE = Crop(below=0, defect_share=0.5, smallest=8)


def examples():
    """Two normal bottles and four defective ones."""
    data = defect_images()
    normal = np.random.default_rng(0).integers(60, 120, (2, SIZE, SIZE, 3)).astype(np.uint8)
    words = [name.replace("_", " ") for name in data.defects]
    return Examples(
        np.concatenate([normal, data.images]),
        np.concatenate([np.zeros((2, SIZE, SIZE), np.uint8), data.masks]),
        ["bottle", "bottle", *(f"bottle {word}" for word in words)],
        [None, None, *(f"isolated bottle {word}" for word in words)],
    )


def settings(**changes):
    small = {"iterations": 4, "batch": 8, "patch": PATCH, "widths": (16,), "text_width": 16, "defect_share": 0.5, "augment": False}
    return small_params().pretrain.model_copy(update={"start": "none", "preconditioned": False} | small | changes)


def run(folder, *, data=None, image_size=SIZE, crop=WHOLE, **changes):
    return pretrain(
        data or examples(),
        settings(**changes),
        crop=crop,
        image_size=image_size,
        timestep_count=1000,
        seed=3,
        state=folder / "state.safetensors",
        execution=small_params().execution,
    )


def weights(base):
    return {f"{k}.{name}": value for k, part in enumerate(base.modules()) for name, value in part.state_dict().items()}


def same(a, b):
    theirs = weights(b)
    return all(torch.equal(value, theirs[name]) for name, value in weights(a).items())


def test_defective_and_normal_rows_are_told_apart():
    """Otherwise the share of defective images in a batch would not be what params.yaml says."""
    assert examples().normal.tolist() == [0, 1]
    assert examples().defective.tolist() == [2, 3, 4, 5]


def test_pretrained_base_loads_as_any_other(tmp_path):
    """Otherwise `train` would need a second way of loading; the folder is diffusers' layout."""
    base, curve = run(tmp_path)
    base.save(tmp_path / "base")
    loaded = load_base(tmp_path / "base")
    assert same(base, loaded)
    assert loaded.prediction == base.prediction
    assert loaded.factor == PATCH
    assert loaded.schedule.timestep_count == 1000
    assert len(curve) == 4
    assert not any(module.training for part in base.modules() for module in part.modules())


def test_same_seed_same_base(tmp_path):
    """Otherwise nobody could make a base again from what the report names."""
    assert same(run(tmp_path / "a")[0], run(tmp_path / "b")[0])


def test_every_training_prompt_fits_and_has_its_own_words(tmp_path):
    """Otherwise two defect types would have one condition, or a prompt with eight learned tokens be cut off."""
    base = untrained(examples(), settings(), 1000)
    texts = examples().texts
    tokens = [tuple(base.tokenizer(text).input_ids) for text in texts]
    assert len(set(tokens)) == len(texts)
    assert max(map(len, tokens)) + 8 <= TEXT_LENGTH
    assert base.embed(texts).shape == (5, TEXT_LENGTH, 16)


@pytest.mark.parametrize(("decay", "kept"), [(1.0, True), (0.0, False)])
def test_published_weights_are_the_running_average(tmp_path, decay, kept):
    """Otherwise the last, noisy weights would be published: an average that never moves leaves those of the beginning."""
    base, _ = run(tmp_path, weight_average=decay)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        begun = untrained(examples(), settings(), 1000)
    assert same(base, begun) == kept


def test_a_preconditioned_base_sees_channels_of_variance_one():
    """Otherwise the switch would change nothing: the fine components would stay the last to be learned."""
    seen = {}
    for switch in (False, True):
        base = untrained(examples(), settings(batch=64, preconditioned=switch), 1000)
        base.unet.register_forward_pre_hook(lambda _module, inputs, switch=switch: seen.update({switch: inputs[0]}))
        silent = NoiseSchedule(torch.full((1000,), 1 - 1e-14, dtype=torch.float64))
        PretrainingLoss(replace(base, schedule=silent), examples(), settings(batch=64), seed=0)(0)

    assert torch.allclose(seen[True] * base.deviation, seen[False], atol=1e-4)
    assert not torch.allclose(seen[True], seen[False], atol=0.1)


@pytest.mark.parametrize(
    ("share", "below", "count", "least", "most"), [(0.0, 200, 1000, 0.17, 0.23), (0.5, 200, 1000, 0.57, 0.63), (1.0, 200, 50, 1, 1)]
)
def test_the_asked_share_of_timesteps_is_low(share, below, count, least, most):
    """Otherwise the base would spend its updates where sampling never is, or be asked for timesteps that its schedule lacks."""
    drawn = drawn_timesteps(4000, count, share, below, torch.Generator().manual_seed(0))

    assert least <= (drawn < below).double().mean() <= most
    assert (int(drawn.min()), drawn.dtype) == (0, torch.int64)
    assert 0.9 * count < drawn.max() < count


def test_running_average_by_hand():
    """Otherwise the decay would mean something else: 0.9 of the old and 0.1 of the new, twice, from 0 to 1."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.9)
    nn.init.ones_(module.weight)
    average.update()
    average.update()
    assert average.average.weight.item() == pytest.approx(0.19)
    assert module.weight.item() == 1


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_batches_are_whole_images_and_isolated_defects(share):
    """Otherwise the base would not have seen what both branches ask of it: half of the defective ones alone, zero elsewhere."""
    params = settings(batch=8, defect_share=share)
    base = untrained(examples(), params, 1000)
    silent = NoiseSchedule(torch.full((1000,), 1 - 1e-14, dtype=torch.float64))
    seen = []
    base.unet.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    PretrainingLoss(replace(base, schedule=silent), examples(), params, seed=0)(0)
    latents = base.encode(torch.from_numpy(examples().images).movedim(-1, 1) / 127.5 - 1)
    outside = np.stack([mask.reshape(CELLS, PATCH, CELLS, PATCH).max((1, 3)) == 0 for mask in examples().masks])
    alone = latents * torch.from_numpy(~outside)[:, None]
    kinds = [kind(row, latents, alone) for row in seen[0]]
    assert kinds.count("isolated") == 8 * share / 2
    assert kinds.count("defective") == 8 * share / 2
    assert kinds.count("normal") == 8 * (1 - share)


def kind(row, latents, alone):
    """What a row of a batch, seen without noise, is."""
    close = [torch.allclose(row, latents[k], atol=1e-4) for k in range(6)]
    if any(close):
        return "normal" if close.index(True) < 2 else "defective"
    return "isolated" if any(torch.allclose(row, alone[k], atol=1e-4) for k in range(2, 6)) else "unknown"


def test_loss_depends_on_the_iteration_alone():
    """Otherwise a resumed training would draw other batches than an uninterrupted one."""
    params = settings(augment=True)
    base = untrained(examples(), params, 1000).freeze()
    loss = PretrainingLoss(base, examples(), params, seed=2**63 - 1)
    first, other, again = loss(1)["loss"], loss(2)["loss"], loss(1)["loss"]
    assert first == again != other


@pytest.mark.parametrize("batch", [8, 5])
def test_halves_have_the_gradients_of_the_whole(batch):
    """Otherwise the two halves of a batch would weigh more or less than the batch itself."""
    base = untrained(examples(), settings(batch=batch), 1000)
    loss = PretrainingLoss(base, examples(), settings(batch=batch), seed=0)
    parameters = [*base.unet.parameters(), *base.text_encoder.parameters()]
    loss(0)["loss"].backward()
    whole = [one.grad for one in parameters]
    for one in parameters:
        one.grad = None
    for half in loss.halves(0)[0]:
        half()["loss"].backward()

    largest = max(one.abs().max() for one in whole)  # some are nothing but rounding errors
    for one, expected in zip(parameters, whole, strict=True):
        assert torch.allclose(one.grad, expected, rtol=1e-3, atol=1e-5 * largest)


def test_picked_rows_are_of_those_given():
    """Otherwise normal images would be taught as defects."""
    generator = torch.Generator().manual_seed(0)
    assert set(pick(np.array([4, 7]), 50, generator).tolist()) == {4, 7}
    assert pick(np.array([], dtype=np.int64), 3, generator).tolist() == []


def test_images_turn_with_their_masks():
    """Otherwise a mask would mark a place where its defect is not; without a generator nothing turns."""
    data, rows = examples(), torch.arange(2, 6).repeat(8)
    images, masks = turned(data, rows, torch.Generator().manual_seed(0))
    assert np.array_equal((images == 230).all(-1), masks == 1)
    assert len({mask.tobytes() for mask in masks}) > 4
    images, masks = turned(data, rows, None)
    assert np.array_equal(images, data.images[rows])
    assert np.array_equal(masks, data.masks[rows])


def test_interrupted_pretraining_resumes_to_the_bit(tmp_path, monkeypatch):
    """Otherwise Ctrl-C would change the base, and with it everything that stands on it: weights, average and curve."""
    whole, curve = run(tmp_path / "whole")
    step = torch.optim.AdamW.step

    def interrupted_step(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted_step)
        with interruptible(), pytest.raises(Interrupted):
            run(tmp_path / "parts")
    resumed, resumed_curve = run(tmp_path / "parts")
    assert resumed_curve.equals(curve)
    assert same(resumed, whole)


def large_examples():
    """`examples` twice as large, in the middle of noise."""
    small, rng = examples(), np.random.default_rng(5)
    images = rng.integers(60, 120, (6, 2 * SIZE, 2 * SIZE, 3)).astype(np.uint8)
    masks = np.zeros((6, 2 * SIZE, 2 * SIZE), np.uint8)
    middle = slice(SIZE // 2, SIZE // 2 + SIZE)
    images[:, middle, middle], masks[:, middle, middle] = small.images, small.masks
    return Examples(images, masks, small.prompts, small.isolated)


def test_windows_that_are_whole_images_change_nothing(tmp_path):
    """Otherwise a base that was published could not be made again: no defect here is as small as 2 px."""
    cropped = WHOLE.model_copy(update={"below": 2})
    assert same(run(tmp_path / "a")[0], run(tmp_path / "b", crop=cropped)[0])


def test_a_base_for_large_photographs_is_a_base_of_its_own_size(tmp_path):
    """Otherwise photographs larger than the base could not be learned from, or in another way after each kill."""
    base, _ = run(tmp_path / "a", data=large_examples())
    assert same(base, run(tmp_path / "b", data=large_examples())[0])
    assert not same(base, run(tmp_path / "c")[0])


def test_an_image_size_that_does_not_fit_is_refused(tmp_path):
    """Otherwise the U-Net would fail on its way up, in the first iteration."""
    with pytest.raises(ConfigError, match="found 15"):
        run(tmp_path, image_size=15)


@pytest.mark.parametrize(("data", "crop"), [(large_examples(), WHOLE), (examples(), WHOLE.model_copy(update={"below": 9}))])
def test_batches_show_what_will_be_asked_for(data, crop):
    """Otherwise the base would be asked for defects at a scale that it has never seen."""
    sight = through_windows(data, crop, SIZE, np.random.default_rng(0))
    params = settings(batch=8)
    base = untrained(sight, params, 1000)
    seen = []
    base.unet.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    silent = NoiseSchedule(torch.full((1000,), 1 - 1e-14, dtype=torch.float64))
    PretrainingLoss(replace(base, schedule=silent), sight, params, seed=0)(0)
    places = [window(mask, crop, SIZE) for mask in data.masks[2:]]
    assert {place.side < data.images.shape[1] for place in places} == {True}
    known = base.encode(
        torch.from_numpy(np.stack([cut(*view, SIZE) for view in zip(data.images[2:], places, strict=True)])).movedim(-1, 1) / 127.5 - 1
    )
    whole = seen[0][4:6]  # half of a batch are normal ones, a quarter whole defective ones
    assert all(any(torch.allclose(row, other, atol=1e-4) for other in known) for row in whole)
