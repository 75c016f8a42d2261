"""Trains one category on a base: two adapters and the learned tokens of its defect types, by the loss in `loss`."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from stage.core.at_once import has_spare_threads
from stage.core.device import device, dtype_of
from stage.core.errors import ConfigError
from stage.core.fitting import Fit
from stage.core.model_params import Train
from stage.core.params import Params
from stage.datasets.examples import DefectImages
from stage.model.base import Base, check_fit
from stage.model.generator import Generator
from stage.model.latents import CachedLatents
from stage.model.loss import StageLoss


class Trained(NamedTuple):
    """A trained generator, the range of its training latents, (C, 1, 1) each, and the loss curve.

    Frozen networks keep the precision of the training.
    """

    generator: Generator
    bounds: tuple[Tensor, Tensor]
    curve: pd.DataFrame


def train(base: Base, data: DefectImages, params: Params, *, state: Path) -> Trained:
    """Train a category's adapters and tokens on the frozen base; an unfinished training in `state` is continued."""
    settings, where = params.train, device(params.execution.device)
    _check(base, params)
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        generator = Generator(
            base,
            data.category,
            data.types,
            params.method.token_count,
            settings.adapter_widths,
            residual=settings.residual,
            adapters=params.method.adapters,
        ).to(where)
    cached = CachedLatents.encode(
        base, data, params.method, augment=settings.augment, image_size=params.base.image_size, hides=settings.hidden_share > 0
    )
    generator.codec.to("cpu")  # its work is done
    dtype = dtype_of(settings.precision, where)
    optimizer, modules = optimise(generator, settings)
    economise(generator, settings, dtype)
    loss = StageLoss(generator, cached, params.method, settings, templates=params.base.prompts, seed=params.seed)
    # Only float16's range is so small that gradients vanish without scaling.
    scaler = torch.amp.GradScaler(where, enabled=dtype == torch.float16)
    at_once = has_spare_threads(where) and settings.accumulate == 1  # the sum of three gradients depends on their order
    label, save_every_s = f"train {data.category}", params.execution.save_every_s
    fit = Fit(label, modules, optimizer, settings.iterations, state, save_every_s, scaler=scaler, at_once=at_once)
    curve = fit.run_in_parts(loss)
    return Trained(generator.to("cpu"), cached.bounds, curve)


def _check(base: Base, params: Params) -> None:
    """Raise ConfigError if the base does not fit the parameters, or if nothing would be trained."""
    check_fit(base, params.base)
    prompts = params.base.prompts
    speaks = any("{defect}" in template for template in (prompts.defect, prompts.isolated))
    if not (params.method.adapters or params.train.train_base or speaks):
        raise ConfigError(
            "Expected something to train, found method.adapters and train.train_base off and no {defect} in base.prompts, in params.yaml. "
            "Put {defect}, which stands for the learned tokens, into a prompt, or switch the adapters on."
        )


def optimise(generator: Generator, settings: Train) -> tuple[torch.optim.Optimizer, dict[str, nn.Module]]:
    """AdamW over the adapters and the learned tokens (and the U-Net, if `train_base`), and their modules by name."""
    generator.eval().requires_grad_(False)
    modules: dict[str, nn.Module] = {"adapters": generator.adapters.train(), "tokens": generator.tokens}
    if settings.train_base:
        modules["unet"] = generator.base.unet
    for module in modules.values():
        module.requires_grad_(True)
    decayed = [p for name, module in modules.items() if name != "tokens" for p in module.parameters()]
    groups = [{"params": decayed}, {"params": list(generator.tokens.parameters()), "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True), modules  # fused: one call for all, a third of the time


def economise(generator: Generator, settings: Train, dtype: torch.dtype) -> None:
    """Hold the matrices of frozen networks in `dtype`, and recompute the U-Net's activations if asked; trained weights stay float32.

    Autocast alone would convert every frozen matrix at every call, and keep the converted one for the backward pass.
    """
    frozen = [generator.text_encoder, *([] if settings.train_base else [generator.unet])]
    for module in (module for network in frozen for module in network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):  # what autocast converts; norms stay float32
            for name, matrix in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(matrix.to(dtype), requires_grad=False))
    if settings.gradient_checkpointing:
        generator.base.unet.enable_gradient_checkpointing()
