"""How much memory a training takes, counted on shapes alone: the real configuration, without its weights, on any machine.

What is counted are the tensors that live at once, in blocks of 512 bytes as CUDA's allocator gives them; a library's own
workspace, fragments and CUDA's context (about half a gigabyte) come on top. B batch, C latent channels, L text length, D text channels.
"""

import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertTokenizer

from benchmarks.networks import LDM_TEXT, LDM_UNET, RELEASED_WIDTHS, seeded
from stage.core.device import autocast, dtype_of
from stage.core.fitting import GRADIENT_NORM
from stage.core.model_params import Train
from stage.core.params import Params
from stage.model.base import Base
from stage.model.generator import BRANCHES, Generator
from stage.model.schedule import Branch, NoiseSchedule
from stage.model.training import economise, optimise

BLOCK, GIB, BATCH = 512, 2**30, 4
TYPES = tuple(f"defect {k}" for k in range(BATCH))  # as many prompts as rows: the most that a batch can need
SPECIAL, VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), 30522


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations give out and that nobody has let go of: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        return output

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key in self.known:
            return

        def freed(_: object) -> None:
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


class Networks(NamedTuple):
    """The configurations of a base's U-Net and text encoder."""

    unet: dict[str, Any]
    text: dict[str, Any]


LDM = Networks(LDM_UNET, {})  # the text encoder's class has the paper's sizes as its defaults
MINIATURE = Networks(
    LDM_UNET
    | {"block_out_channels": (64, 128), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 128},
    {"encoder_layers": 2, "encoder_ffn_dim": 256, "d_model": 128},
)


def table(params: Params) -> Table:
    """The LDM base at the paper's batch of 4, both branches: weights, and the most that an update holds."""
    found = Table("precision", "checkpointing", "accumulate", "weights, GiB", "peak, GiB", "of the first row")
    first = 0.0
    for settings in cases(params):
        weights, peak = counted(LDM, settings)
        first = first or peak
        switch = "on" if settings.gradient_checkpointing else "off"
        shares = (f"{weights / GIB:.2f}", f"{peak / GIB:.2f}", f"{peak / first:.2f}")
        found.add_row(settings.precision, switch, str(settings.accumulate), *shares)
    unet, text = (sum(p.numel() for p in network.parameters()) / 1e9 for network in networks(LDM, "meta"))
    found.title = f"Memory of training on the LDM base, batch {BATCH}, U-Net frozen: {unet:.3f} + {text:.3f} billion parameters"
    found.caption = checked(params)
    return found


def cases(params: Params) -> list[Train]:
    """The settings that decide about memory, at the paper's batch on a frozen base."""
    choices = product(("float32", "bfloat16"), (False, True), (1, BATCH))
    frozen = params.train.model_copy(update={"batch": BATCH, "train_base": False, "adapter_widths": RELEASED_WIDTHS, "residual": False})
    names = ("precision", "gradient_checkpointing", "accumulate")
    return [frozen.model_copy(update=dict(zip(names, choice, strict=True))) for choice in choices]


def checked(params: Params) -> str:
    """How far the count lies from what torch's own CPU allocator gives out for a small network of the same kind, at worst."""
    ratios: list[float] = []
    for settings in cases(params)[::6]:  # the plainest, and the one that the count was seen to miss by most
        weights, peak = counted(MINIATURE, settings, as_on_gpu=False)
        ratios.append((peak - weights) / allocated(MINIATURE, settings))
    return f"The same count on a small network, over what torch's CPU allocator gave out for it: {min(ratios):.3f} to {max(ratios):.3f}."


def counted(kind: Networks, train: Train, *, as_on_gpu: bool = True) -> tuple[int, int]:
    """Bytes of the weights before the first update, and at the highest point of two updates."""
    dtype = dtype_of(train.precision, "cpu")
    with FakeTensorMode():
        codec = AutoencoderKL()  # `train` sends it away from the device, so it does not count
        with LiveBytes() as count:
            generator = generator_of(kind, codec, train)
            optimizer, _ = optimise(generator, train)
            economise(generator, train, dtype)
            if as_on_gpu:
                norms_as_on_gpu(generator, dtype)
            weights = count.peak = count.live
            for _ in range(2):
                update(generator, optimizer, train, dtype)
    return weights, count.peak


def allocated(kind: Networks, train: Train) -> int:
    """Bytes that two real updates have in use at most, over those before them, by the records of torch's CPU allocator."""
    dtype = dtype_of(train.precision, "cpu")
    with seeded():
        generator = generator_of(kind, AutoencoderKL(), train)
        optimizer, _ = optimise(generator, train)
        economise(generator, train, dtype)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            for _ in range(2):
                update(generator, optimizer, train, dtype)
    records = sorted((e.start_ns(), e.nbytes()) for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(accumulate(size for _, size in records))


def generator_of(kind: Networks, codec: AutoencoderKL, train: Train) -> Generator:
    """An untrained generator as the paper has it; its vocabulary has the real size, and its base a schedule of nothing in particular."""
    with tempfile.TemporaryDirectory() as scratch:
        words = Path(scratch) / "vocabulary.txt"
        words.write_text("\n".join([*SPECIAL, *(f"word{k}" for k in range(VOCABULARY - len(SPECIAL)))]))
        tokenizer = BertTokenizer(str(words), model_max_length=LDM_TEXT[0])
    unet, text_encoder = networks(kind, "cpu")
    base = Base(unet, text_encoder, tokenizer, codec, NoiseSchedule(torch.linspace(0.99, 0.01, 1000, dtype=torch.float64)), "epsilon")
    return Generator(base, "part", TYPES, 8, train.adapter_widths, residual=train.residual)


def networks(kind: Networks, device: str) -> tuple[UNet2DConditionModel, LDMBertModel]:
    """U-Net and text encoder, untrained."""
    with torch.device(device):
        return UNet2DConditionModel(**kind.unet), LDMBertModel(LDMBertConfig(**kind.text))


def update(generator: Generator, optimizer: torch.optim.Optimizer, train: Train, dtype: torch.dtype) -> None:
    """What `StageLoss` and `Fit` do in one update, on latents of noise: what they hold, in their order."""
    side = generator.base.unet.config["sample_size"]
    shape = (train.batch, generator.base.channels, side, side)
    x_t, noise, mask = torch.randn(shape), torch.randn(shape), torch.ones(train.batch, 1, side, side)
    t = torch.zeros(train.batch, dtype=torch.int64)
    optimizer.zero_grad()
    with autocast("cpu", dtype):
        conditions = generator.base.embed([f"part {tokens}" for tokens in generator.placeholders])
    table = conditions.detach().requires_grad_()
    for part in zip(*(field.chunk(train.accumulate) for field in (x_t, noise, mask, t, torch.arange(train.batch))), strict=True):
        for branch in BRANCHES:
            _summand(generator, branch, part, table, dtype).backward()
    conditions.backward(table.grad)
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(learning, GRADIENT_NORM)
    optimizer.step()


def norms_as_on_gpu(generator: Generator, dtype: torch.dtype) -> None:
    """A GPU's autocast computes group and layer normalisation in float32, the CPU's in what comes."""
    for module in generator.modules():
        if dtype != torch.float32 and isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))


def _summand(generator: Generator, branch: Branch, part: tuple[Tensor, ...], conditions: Tensor, dtype: torch.dtype) -> Tensor:
    x_t, noise, mask, t, rows = part
    with autocast("cpu", dtype):
        eps = generator.predict_noise(x_t, t, branch, mask, conditions[rows])
    return ((noise - eps).abs() * mask).mean()
