import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniatures import PATCH, SIZE, defect_images, interruptible, small_base, small_params, write_latent_diffusion, write_stable_diffusion
from safetensors.torch import load_file
from torch import nn

from stage.core.device import dtype_of
from stage.core.errors import ConfigError
from stage.core.progress import Interrupted
from stage.datasets.windows import turn
from stage.model.base import load_base, pixels_to_tensor, tensor_to_pixels
from stage.model.generator import Generator
from stage.model.latents import CachedLatents
from stage.model.loss import StageLoss
from stage.model.schedule import NoiseSchedule
from stage.model.tokens import TextConditions
from stage.model.training import DefectImages, economise, optimise, train

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


def total(parts):
    """The losses of an iteration: the sum of its summands."""
    sums = Counter()
    for part in (part for group in parts for part in group):
        for name, loss in part().items():
            sums[name] += loss.detach()
    return sums


class KnownCase:
    """Eq. 12 where the network's answer is known: adapters are residual and untouched, so they pass it on."""

    def __init__(self, answer, *, alignment="scheduled", balance_limit=1.0, alpha_bar=None, hidden_share=0.0, accumulate=1):
        params = small_params(batch=16, balance_limit=balance_limit, hidden_share=hidden_share, accumulate=accumulate)
        method = params.method.model_copy(update={"alignment": alignment})
        self.network = KnownNoise(answer)
        base = replace(small_base(), unet=self.network)
        if alpha_bar is not None:
            base = replace(base, schedule=NoiseSchedule(torch.full((1000,), alpha_bar, dtype=torch.float64)))
        self.data = CachedLatents.encode(base, quarters(), method, augment=False, image_size=SIZE)
        generator = Generator(base, "bottle", ("crack",), 8, (8,), residual=True)
        self.masks = {}
        for branch, adapter in generator.adapters.items():
            adapter.register_forward_hook(lambda _module, inputs, _output, branch=branch: self.masks.update({branch: inputs[1]}))
        self.losses = total(StageLoss(generator, self.data, method, params.train, templates=params.base.prompts, seed=1)(0))

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
    cached = CachedLatents.encode(base, data, params.method, augment=True, image_size=SIZE)
    generator = Generator(base, "bottle", data.types, 8, (8,), residual=True).eval()
    loss = StageLoss(generator, cached, params.method, params.train, templates=params.base.prompts, seed=params.seed)
    with torch.no_grad():
        first, other, again = total(loss(4)), total(loss(5)), total(loss(4))
    assert first == again
    assert first["loss"] != other["loss"]


def test_variants_of_an_image_keep_to_their_masks():
    """Otherwise augmentation would teach defects beside their masks: every bright cell of each of the eight lies in its own mask."""
    base, data = small_base(), defect_images()
    cached = CachedLatents.encode(base, data, small_params().method, augment=True, image_size=SIZE)
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
    low, high = CachedLatents.encode(base, data, small_params().method, augment=False, image_size=SIZE).bounds
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
    """Five updates on a miniature, and its base and tokens as they were before."""
    reference, base, data = small_base(), small_base(), defect_images()
    tokens = Generator(reference, "bottle", data.types, 8, (8,), residual=True).tokens.weight
    result = train(base, data, small_params(iterations=5), state=tmp_path_factory.mktemp("train") / "state.safetensors")
    return result, snapshot(reference), snapshot(base), tokens


def test_branches_trained_at_once_are_those_trained_in_turn_to_the_bit(tmp_path):
    """Otherwise a checkpoint would depend on how many threads there were, or on which of them came first."""
    params, found = small_params(iterations=4, batch=4, train_base=True), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        result = train(small_base(), defect_images(), params, state=tmp_path / f"{threads}.safetensors")
        found.append((result.curve, result.generator.state_dict()))
        assert torch.get_num_threads() == threads

    (curve, weights), (other_curve, other_weights) = found
    assert curve.equals(other_curve)
    assert changed(weights, other_weights) == set()


def test_training_moves_our_tokens_and_nothing_of_the_base(trained):
    """Otherwise the frozen base would drift, and every other category's checkpoint with it: bit for bit."""
    result, before, after, tokens = trained
    assert changed(before, after) == set()
    assert result.generator.tokens.weight.shape == tokens.shape == (8 * 2, 16)
    assert (result.generator.tokens.weight != tokens).any(1).all()
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
    assert {name.split(".")[0] for name, p in generator.named_parameters() if p.requires_grad} == {"adapters", "tokens"}


def test_train_base_moves_the_network_too(tmp_path):
    """Otherwise the switch would do nothing."""
    reference, base, data = small_base(), small_base(), defect_images()
    Generator(reference, "bottle", data.types, 8, (8,), residual=True)
    train(base, data, small_params(iterations=2, train_base=True), state=tmp_path / "state.safetensors")
    parts = {name.split(".")[0] for name in changed(snapshot(reference), snapshot(base))}
    assert parts == {"unet"}


def signal_after(calls, number):
    """A hook that sends this process a signal at a module's `calls`-th call."""
    left = iter(range(calls - 1, -1, -1))

    def hook(*_):
        if next(left, -1) == 0:
            os.kill(os.getpid(), number)

    return hook


EXACT = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "accumulated": {"accumulate": 2},
    "everything": {"precision": "bfloat16", "accumulate": 2, "train_base": True, "gradient_checkpointing": True, "hidden_share": 0.5},
}


def exact_params(case):
    params = small_params(iterations=6, batch=4, augment=True, **EXACT[case])
    return params.model_copy(update={"execution": params.execution.model_copy(update={"save_every_s": 0.0})})


def train_until(case, state, calls, number):
    """A training that gets a signal at a call of its U-Net."""
    base = small_base()
    base.unet.register_forward_hook(signal_after(calls, number))
    train(base, defect_images(), exact_params(case), state=state)


@pytest.fixture(scope="module", params=EXACT)
def whole(request, tmp_path_factory):
    """A case, and its uninterrupted training with its last state, which holds the optimiser too."""
    state = tmp_path_factory.mktemp("whole") / "state.safetensors"
    return request.param, train(small_base(), defect_images(), exact_params(request.param), state=state), load_file(state)


def assert_resumes_to(whole, state):
    case, expected, last = whole
    resumed = train(small_base(), defect_images(), exact_params(case), state=state)
    assert resumed.curve.equals(expected.curve)
    assert changed(expected.generator.state_dict(), resumed.generator.state_dict()) == set()
    found = load_file(state)
    assert found.keys() == last.keys()
    assert changed(last, found) == set()
    assert {int(value) for key, value in found.items() if key.endswith(".step")} == {6}


def test_interrupted_training_resumes_to_the_bit(whole, tmp_path):
    """Otherwise Ctrl-C would change a checkpoint: adapters with their statistics, tokens, optimiser and curve are those of one run."""
    with interruptible(), pytest.raises(Interrupted):
        train_until(whole[0], tmp_path / "state.safetensors", 5, signal.SIGINT)
    assert_resumes_to(whole, tmp_path / "state.safetensors")


@pytest.mark.slow
def test_killed_training_resumes_to_the_bit(whole, tmp_path):
    """Otherwise a lost machine would change a checkpoint: the process ends by SIGKILL in the middle of an update drawn at random."""
    calls = EXACT[whole[0]].get("accumulate", 1) * 2  # of the U-Net, an update; the first update's kill would leave nothing to resume
    calls = int(np.random.default_rng().integers(calls + 1, 6 * calls + 1))
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["stage.model.training"])
    process = forks.Process(target=train_until, args=(whole[0], tmp_path / "state.safetensors", calls, signal.SIGKILL))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 1 <= len(load_file(tmp_path / "state.safetensors")["curve.loss"]) <= 5, f"killed at call {calls}"
    assert_resumes_to(whole, tmp_path / "state.safetensors")


def gradients(*, adapters=False, templates=None, unet=None, **changes):
    """Gradients of everything trainable, and what was asked of the text encoder, for one iteration on a miniature."""
    params = small_params(batch=6, **changes)
    base, data = small_base(), defect_images()
    cached = CachedLatents.encode(base, data, params.method, augment=False, image_size=SIZE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(base, "bottle", data.types, 8, (8,), residual=False, adapters=adapters)
    optimise(generator, params.train)
    economise(generator, params.train, torch.float32)
    loss = StageLoss(generator, cached, params.method, params.train, templates=templates or params.base.prompts, seed=3)
    asked = []
    base.text_encoder.get_input_embeddings().register_forward_hook(lambda _module, inputs, _output: asked.append(len(inputs[0])))
    for part in (part for group in loss(0) for part in group):
        part()["loss"].backward()
    return {name: p.grad for name, p in generator.named_parameters() if p.grad is not None}, asked


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(parts):
    """Otherwise a small card would train with another loss: the same rows and noise, and the mean over all of them."""
    expected, _ = gradients(train_base=True, hidden_share=0.5)
    found, asked = gradients(train_base=True, hidden_share=0.5, accumulate=parts)
    assert found.keys() == expected.keys()
    assert "tokens.weight" in found
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max()), name
    assert len(asked) == 1


def test_parts_show_the_network_the_rows_of_the_whole():
    """Otherwise accumulation would draw other rows, timesteps or noise than the batch it stands for: bit for bit, in order."""
    whole, parts = KnownCase(1000.0), KnownCase(1000.0, accumulate=4)
    for branch in (0, 1):
        asked = [torch.cat(values) for values in zip(*(call[:2] for call in parts.network.asked[branch::2]), strict=True)]
        assert all(torch.equal(*pair) for pair in zip(asked, whole.network.asked[branch], strict=False))
    assert len(parts.network.asked) == 8
    assert {len(t) for _, t, _ in parts.network.asked} == {4}
    for name, loss in whole.losses.items():
        assert parts.losses[name].item() == pytest.approx(loss.item(), rel=1e-5)


def test_statistics_of_parts_are_counted_once_a_part(tmp_path):
    """Otherwise what is said of batch normalisation, that it sees each part alone, would be wrong."""
    result = train(small_base(), defect_images(), small_params(batch=4, accumulate=2), state=tmp_path / "state.safetensors")
    assert all(int(adapter.blocks[1].num_batches_tracked) == 2 * 3 for adapter in result.generator.adapters.values())
    assert len(result.curve) == 3


def test_each_prompt_of_a_batch_is_embedded_once():
    """Otherwise the text encoder, as large as the U-Net in the paper's base, would do several times its work."""
    prompts = small_params().base.prompts
    _, asked = gradients()
    assert asked == [4]  # two defect types, a prompt for either branch
    _, asked = gradients(templates=prompts.model_copy(update={"isolated": prompts.defect}))  # the paper's case
    assert asked == [2]


def test_prompts_without_learned_tokens_are_embedded_once_for_all(tmp_path):
    """Otherwise what is constant, as for BTAD, would be computed anew in every update."""
    base, params, asked = small_base(), small_params(), []
    templates = params.base.prompts.model_copy(update={"defect": "damaged", "isolated": "damaged"})
    base.text_encoder.register_forward_hook(lambda *_: asked.append(1))
    constant = params.model_copy(update={"base": params.base.model_copy(update={"prompts": templates})})
    result = train(base, defect_images(), constant, state=tmp_path / "state.safetensors")
    assert len(asked) == 1
    assert len(result.curve) == 3


def test_conditions_of_a_row_are_those_of_its_type():
    """Otherwise rows would be trained under another type's tokens, or one branch under the other's prompt."""
    base, data, params = small_base(), defect_images(), small_params()
    generator = Generator(base, "bottle", data.types, 8, (8,), residual=True).eval()
    for templates in (params.base.prompts, params.base.prompts.model_copy(update={"isolated": "isolated bottle"})):
        conditions = TextConditions(base, generator.texts(templates), generator.placeholders)
        for types in (torch.tensor([1, 0, 1]), torch.tensor([1, 1])):
            found = conditions(types)
            for branch, expected in generator.conditions(templates).items():
                assert torch.allclose(found.table[found.rows[branch]], expected[types], atol=1e-5)


def test_learned_tokens_stand_where_their_placeholders_do():
    """Otherwise the tokens that are trained would not be the ones that the prompt speaks: only a type's own conditions change."""
    params, data = small_params(), defect_images()
    generator = Generator(small_base(), "bottle", data.types, 8, (8,), residual=True)
    with torch.no_grad():
        before = generator.conditions(params.base.prompts)
        generator.tokens.weight[8:] += 1  # of the second type
        after = generator.conditions(params.base.prompts)
    for branch in before:
        assert torch.equal(before[branch][0], after[branch][0])
        assert not torch.allclose(before[branch][1], after[branch][1])


def test_without_adapters_the_estimate_is_the_bases_own(tmp_path):
    """Otherwise the ablation's first row would not be the base alone; its tokens are learned all the same."""
    params = small_params()
    bare = params.model_copy(update={"method": params.method.model_copy(update={"adapters": False})})
    base = small_base()
    generator = train(base, defect_images(), bare, state=tmp_path / "state.safetensors").generator
    x_t, mask = torch.randn(2, CHANNELS, CELLS, CELLS, generator=torch.Generator().manual_seed(0)), torch.ones(2, 1, CELLS, CELLS)
    with torch.no_grad():
        condition = generator.conditions(params.base.prompts)["anomaly_aware"]
        own = base.unet(x_t, 300, condition).sample
        assert torch.equal(generator.predict_noise(x_t, 300, "anomaly_aware", mask, condition), own)
        assert torch.equal(generator.predict_noise(x_t, 300, "anomaly_only", mask, condition), own)
    assert not any(name.startswith("adapters") for name in generator.state_dict())
    untrained = Generator(small_base(), "bottle", generator.types, 8, (8,), residual=True, adapters=False)
    assert changed(untrained.state_dict(), generator.state_dict()) == {"tokens.weight"}


def test_nothing_to_train_is_refused(tmp_path):
    """Otherwise a setting that learns nothing would end in a message about tensors and grad_fn."""
    params = small_params()
    prompts = params.base.prompts.model_copy(update={"defect": "damaged", "isolated": "damaged"})
    changes = {"method": params.method.model_copy(update={"adapters": False}), "base": params.base.model_copy(update={"prompts": prompts})}
    with pytest.raises(ConfigError, match=r"Expected something to train, found method\.adapters .* params\.yaml\. Put \{defect\}"):
        train(small_base(), defect_images(), params.model_copy(update=changes), state=tmp_path / "state.safetensors")


@pytest.mark.parametrize(("precision", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_precision_on_the_cpu(precision, expected):
    """Otherwise the demo would train in another precision than its results were made in."""
    assert dtype_of(precision, "cpu") == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_float32_weights(precision, tmp_path):
    """Otherwise small updates would be rounded away: what is trained stays float32, what is frozen is held small, the loss hardly moves."""
    params = small_params(iterations=2, precision=precision)
    result = train(small_base(), defect_images(), params, state=tmp_path / "low.safetensors")
    full = train(small_base(), defect_images(), small_params(iterations=2), state=tmp_path / "full.safetensors")
    kinds = {part: {p.dtype for p in getattr(result.generator, part).parameters() if p.ndim > 1} for part in ("adapters", "tokens", "unet")}
    assert kinds == {"adapters": {torch.float32}, "tokens": {torch.float32}, "unet": {getattr(torch, precision)}}
    assert result.curve["loss"].tolist() == pytest.approx(full.curve["loss"].tolist(), rel=0.01)
    assert result.curve["loss"].tolist() != full.curve["loss"].tolist()


def held(checkpointing):
    """Bytes that a training's forward keeps for its way back, and the gradient of the tokens, on a frozen U-Net in evaluation mode."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor  # kept, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found, _ = gradients(gradient_checkpointing=checkpointing)
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()), found["tokens.weight"]


def test_gradient_checkpointing_acts_on_a_frozen_network():
    """Otherwise the switch would save nothing where it is needed, or change the gradients: diffusers' blocks ask for no mode."""
    (plain, expected), (less, found) = held(False), held(True)
    assert less < 0.6 * plain
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.abs().max())


@pytest.mark.parametrize("write", [write_stable_diffusion, write_latent_diffusion])
@pytest.mark.parametrize(("residual", "precision"), [(True, "float32"), (False, "float32"), (False, "bfloat16")])
def test_trains_on_a_given_checkpoint(write, residual, precision, tmp_path):
    """Otherwise the paper's base, or Stable Diffusion, could be loaded and not trained on."""
    write(tmp_path / "base")
    base = load_base(tmp_path / "base")
    result = train(
        base, defect_images(), small_params(iterations=2, residual=residual, precision=precision), state=tmp_path / "state.safetensors"
    )
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
