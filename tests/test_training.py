import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniatures import PATCH, SIZE, defect_images, interruptible, small_base, small_params, write_latent_diffusion, write_stable_diffusion
from torch import nn

from stage.augment import turn
from stage.base import load_base, pixels_to_tensor, tensor_to_pixels
from stage.params import ConfigError
from stage.progress import Interrupted
from stage.schedule import NoiseSchedule
from stage.training import CachedLatents, DefectImages, Generator, StageLoss, optimise, train

CHANNELS, CELLS = 3 * PATCH**2, SIZE // PATCH
QUARTER = np.s_[0:8, 0:8]  # a quarter of the image, on whole cells


class Answer:
    def __init__(self, sample):
        self.sample = sample


class KnownNoise(nn.Module):
    """In the U-Net's place: answers one number everywhere and notes what it was asked."""

    def __init__(self, value):
        super().__init__()
        self.value, self.asked = value, []
        self.config, self.device = {"in_channels": CHANNELS}, torch.device("cpu")

    def forward(self, x_t, t, condition):
        self.asked.append((x_t, t, condition))
        return Answer(torch.full_like(x_t, self.value))


def quarters(count=3):
    """Images of noise whose defect is the upper left quarter."""
    images = np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    masks[:, *QUARTER] = 1
    return DefectImages("bottle", images, masks, ["crack"] * count, 255 - images[:2])


class KnownCase:
    """Eq. 12 where the network's answer is known: adapters are residual and untouched, so they pass it on."""

    def __init__(self, answer, *, alignment="scheduled", balance_limit=1.0, alpha_bar=None, hidden_share=0.0):
        params = small_params(batch=16, balance_limit=balance_limit, hidden_share=hidden_share)
        method = params.method.model_copy(update={"alignment": alignment})
        self.network = KnownNoise(answer)
        base = replace(small_base(), unet=self.network)
        if alpha_bar is not None:
            base = replace(base, schedule=NoiseSchedule(torch.full((1000,), alpha_bar, dtype=torch.float64)))
        self.data = CachedLatents.encode(base, quarters(), method, augment=False)
        generator = Generator(base, "bottle", ("crack",), 8, (8,), residual=True)
        self.masks = {}
        for branch, adapter in generator.adapters.items():
            adapter.register_forward_hook(lambda _module, inputs, _output, branch=branch: self.masks.update({branch: inputs[1]}))
        self.losses = StageLoss(generator, self.data, method, params.train, params.base.prompts, seed=1)(0)

    @property
    def zeta(self):
        """Of the timesteps that were drawn, by Eq. 8 in the paper's numbers."""
        (_, t, _), _ = self.network.asked
        return ((t + 1 - 200) / 800).clamp(min=0)


def test_loss_by_hand():
    """Otherwise Eq. 12: against an answer of 1000 each error is 1000, weighted by M_t^p (1/4 and 3/4 zeta) for the aware branch alone."""
    case = KnownCase(1000.0)
    aware = 1000 * (0.25 + 0.75 * case.zeta).mean().item()
    assert case.losses["aware"].item() == pytest.approx(aware, rel=1e-3)
    assert case.losses["only"].item() == pytest.approx(1000, rel=1e-3)
    assert case.losses["loss"].item() == pytest.approx(aware + 1000, rel=1e-3)
    assert 0.2 < case.zeta.mean() < 0.6


def test_loss_is_the_absolute_error():
    """Otherwise the loss would be L2: E|N(0, 1)| is the root of 2 / pi; 12,288 numbers."""
    assert KnownCase(0.0).losses["only"].item() == pytest.approx((2 / np.pi) ** 0.5, abs=0.02)


def test_without_alignment_the_aware_loss_counts_inside_the_mask_alone():
    """Otherwise the ablation's training would still be weighted by the schedule."""
    assert KnownCase(1000.0, alignment="binary").losses["aware"].item() == pytest.approx(250, rel=1e-3)


def test_balanced_loss_by_hand():
    """Otherwise small defects would be overlooked, or the paper's loss changed: a quarter of the image counts fourfold, 1 + 3/4."""
    case = KnownCase(1000.0, balance_limit=20.0)
    assert case.losses["only"].item() == pytest.approx(1750, rel=1e-3)
    assert case.losses["aware"].item() == pytest.approx(1000 * (1 + 0.75 * case.zeta.mean().item()), rel=1e-3)


def test_aware_branch_sees_the_image_and_the_other_the_defect_alone():
    """Otherwise Eq. 12 would be followed as printed, against III-B: seen without noise, the one is x_0, the other x_0 * M_0."""
    case = KnownCase(0.0, alpha_bar=1 - 1e-14)
    (whole, _, aware), (isolated, _, only) = case.network.asked
    known = case.data.latents[:, 0]
    assert all(any(torch.allclose(row, image, atol=1e-5) for image in known) for row in whole)
    inside = case.data.masks[0, 0]
    assert torch.allclose(isolated, whole * inside, atol=1e-5)
    assert isolated[..., 4:, :].abs().max() < 1e-5 < isolated[..., :4, :4].abs().min()
    assert not torch.equal(aware, only)


def test_a_hidden_defect_is_replaced_by_a_normal_image_above_the_threshold_alone():
    """Otherwise a small base would be taught that normal texture at low noise is a defect, or nothing at all."""
    case = KnownCase(0.0, alpha_bar=1 - 1e-14, hidden_share=1.0)
    (shown, t, _), _ = case.network.asked
    known, normal = case.data.latents[:, 0], case.data.normal
    hidden = t + 1 > 200
    assert 0 < hidden.sum() < len(t)
    for row, is_hidden in zip(shown, hidden, strict=True):
        inside = normal if is_hidden else known
        assert any(torch.allclose(row[:, :4, :4], image[:, :4, :4], atol=1e-5) for image in inside)
        assert any(torch.allclose(row[:, 4:], image[:, 4:], atol=1e-5) for image in known)


def test_the_target_of_a_hidden_defect_leads_back_to_it():
    """Otherwise the network would learn to keep what covers the defect: the error is then sqrt(alpha_bar / (1 - alpha_bar)) |shown - x_0|."""
    case = KnownCase(0.0, alpha_bar=1 - 1e-4, hidden_share=1.0)
    (shown, _, _), (isolated, _, _) = case.network.asked
    known = case.data.latents[:, 0]
    rows = [min(range(len(known)), key=lambda k, row=row: (row[:, 4:] - known[k][:, 4:]).abs().sum().item()) for row in shown]
    distance = (isolated - known[rows] * case.data.masks[0, 0]).abs().mean().item()
    assert case.losses["only"].item() == pytest.approx(100 * distance, rel=0.05)


def test_adapters_are_given_their_branchs_mask():
    """Otherwise III-D: M_t^p for the aware branch, M_0 for the other."""
    case = KnownCase(0.0)
    assert torch.equal(case.masks["anomaly_only"], case.data.masks[0].expand(16, -1, -1, -1))
    assert torch.allclose(case.masks["anomaly_aware"][:, 0, -1, -1], case.zeta.float())
    assert torch.all(case.masks["anomaly_aware"][:, 0, :4, :4] == 1)


def test_loss_depends_on_the_iteration_alone():
    """Otherwise a resumed training would draw other batches than an uninterrupted one."""
    params = small_params()
    base, data = small_base(), defect_images()
    cached = CachedLatents.encode(base, data, params.method, augment=True)
    generator = Generator(base, "bottle", data.types, 8, (8,), residual=True).eval()
    loss = StageLoss(generator, cached, params.method, params.train, params.base.prompts, params.seed)
    with torch.no_grad():
        first, other, again = loss(4), loss(5), loss(4)
    assert first == again
    assert first["loss"] != other["loss"]


def test_variants_of_an_image_keep_to_their_masks():
    """Otherwise augmentation would teach defects beside their masks: every bright cell of each of the eight lies in its own mask."""
    base, data = small_base(), defect_images()
    cached = CachedLatents.encode(base, data, small_params().method, augment=True)
    assert cached.latents.shape == (4, 8, CHANNELS, CELLS, CELLS)
    assert cached.masks.shape == (4, 8, 1, CELLS, CELLS)
    assert cached.types.tolist() == [0, 1, 0, 1]
    for latents, masks, image in zip(cached.latents, cached.masks, data.images, strict=True):
        decoded = tensor_to_pixels(base.decode(latents))
        for k in range(8):
            assert np.array_equal(decoded[k], turn(image, k))
            bright = (decoded[k] == 230).all(-1).reshape(CELLS, PATCH, CELLS, PATCH).any((1, 3))
            assert np.array_equal(bright, masks[k, 0].numpy() > 0)


def test_bounds_are_those_of_the_training_latents():
    """Otherwise sampling would clip what the defects really contain."""
    base, data = small_base(), defect_images()
    low, high = CachedLatents.encode(base, data, small_params().method, augment=False).bounds
    latents = base.encode(pixels_to_tensor(data.images)).numpy()
    assert low.shape == high.shape == (CHANNELS, 1, 1)
    assert np.array_equal(low[:, 0, 0].numpy(), latents.min((0, 2, 3)))
    assert np.array_equal(high[:, 0, 0].numpy(), latents.max((0, 2, 3)))


def snapshot(base):
    parts = zip(("unet", "text", "codec"), base.modules(), strict=True)
    return {f"{name}.{key}": value.clone() for name, part in parts for key, value in part.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Five updates on a miniature, and all its base's weights, with the new tokens, before and after."""
    reference, base, data = small_base(), small_base(), defect_images()
    rows = Generator(reference, "bottle", data.types, 8, (8,), residual=True).token_rows
    result = train(base, data, small_params(iterations=5), state=tmp_path_factory.mktemp("train") / "state.safetensors")
    return result, snapshot(reference), snapshot(base), rows


def test_training_moves_our_tokens_and_nothing_else_of_the_base(trained):
    """Otherwise the frozen base would drift, and every other category's checkpoint with it: bit for bit."""
    result, before, after, rows = trained
    (embedding,) = changed(before, after)
    assert embedding.endswith("token_embedding.weight")
    moved = (before[embedding] != after[embedding]).any(1)
    assert moved.nonzero()[:, 0].tolist() == rows.tolist()
    assert len(rows) == 8 * 2
    assert result.generator.types == ("broken_large", "crack")


def test_both_adapters_learn(trained):
    """Otherwise a branch would be left as it began; residual adapters begin with zeros in their last layer."""
    for adapter in trained[0].generator.adapters.values():
        assert adapter.project.weight.abs().max() > 0
        assert int(adapter.blocks[1].num_batches_tracked) == 5


def test_curve_has_both_branches(trained):
    """Otherwise the report could not show which branch fails to learn."""
    curve = trained[0].curve
    assert len(curve) == 5
    assert curve["loss"].tolist() == pytest.approx((curve["aware"] + curve["only"]).tolist())


def test_only_adapters_are_in_training_mode():
    """Otherwise dropout of the frozen base would be on, or the adapters' normalisation never see its statistics."""
    data = defect_images()
    generator = Generator(small_base(), "bottle", data.types, 8, (8,), residual=True)
    optimise(generator, small_params().train)
    training = {name for name, module in generator.named_modules() if module.training}
    assert training
    assert all(name.startswith("adapters") for name in training)
    assert {name.split(".")[0] for name, p in generator.named_parameters() if p.requires_grad} == {"adapters", "text_encoder"}


def test_train_base_moves_the_network_too(tmp_path):
    """Otherwise the switch would do nothing."""
    reference, base, data = small_base(), small_base(), defect_images()
    Generator(reference, "bottle", data.types, 8, (8,), residual=True)
    train(base, data, small_params(iterations=2, train_base=True), state=tmp_path / "state.safetensors")
    parts = {name.split(".")[0] for name in changed(snapshot(reference), snapshot(base))}
    assert parts == {"unet", "text"}


def interrupt_after(calls):
    """A hook that sends this process a SIGINT at a module's `calls`-th call."""
    left = iter(range(calls - 1, -1, -1))

    def hook(*_):
        if next(left, -1) == 0:
            os.kill(os.getpid(), signal.SIGINT)

    return hook


def test_interrupted_training_resumes_to_the_bit(tmp_path):
    """Otherwise Ctrl-C would change a checkpoint: adapters with their statistics, tokens and curve are those of one run."""
    params, data = small_params(iterations=6), defect_images()
    whole = train(small_base(), data, params, state=tmp_path / "whole.safetensors")
    stopped = small_base()
    stopped.unet.register_forward_hook(interrupt_after(5))  # two calls an update
    with interruptible(), pytest.raises(Interrupted):
        train(stopped, data, params, state=tmp_path / "parts.safetensors")
    resumed = train(small_base(), data, params, state=tmp_path / "parts.safetensors")
    assert resumed.curve.equals(whole.curve)
    assert changed(whole.generator.state_dict(), resumed.generator.state_dict()) == set()


@pytest.mark.parametrize("write", [write_stable_diffusion, write_latent_diffusion])
@pytest.mark.parametrize("residual", [True, False])
def test_trains_on_a_given_checkpoint(write, residual, tmp_path):
    """Otherwise the paper's base, or Stable Diffusion, could be loaded and not trained on."""
    write(tmp_path / "base")
    base = load_base(tmp_path / "base")
    result = train(base, defect_images(), small_params(iterations=2, residual=residual), state=tmp_path / "state.safetensors")
    assert np.isfinite(result.curve["loss"]).all()
    assert result.bounds[0].shape == (4, 1, 1)


def test_a_base_with_another_number_of_timesteps_is_refused(tmp_path):
    """Otherwise t_s and the graded intervals, which count to T, would mean other noise levels."""
    base = replace(small_base(), schedule=NoiseSchedule(torch.linspace(0.99, 0.01, 50, dtype=torch.float64)))
    with pytest.raises(ConfigError, match=r"Expected a base of 1000 timesteps .*, found 50"):
        train(base, defect_images(), small_params(), state=tmp_path / "state.safetensors")


def test_the_largest_seed_works(tmp_path):
    """Otherwise a seed that params.yaml admits would end in an overflow."""
    params = small_params(iterations=1).model_copy(update={"seed": 2**63 - 1})
    assert len(train(small_base(), defect_images(), params, state=tmp_path / "state.safetensors").curve) == 1
