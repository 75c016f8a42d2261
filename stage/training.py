"""Training of one category on a base (METHOD 3): two adapters and the learned tokens of its defect types (Eq. 12).

Shapes: B batch, C latent channels, h w latent size; masks (.., 1, h, w) in {0, 1}.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from stage.adapter import MaskGuidanceAdapter
from stage.base import Base, check_image_size
from stage.device import device
from stage.diffusion import compose, noised
from stage.examples import DefectImages
from stage.fitting import Fit, Losses
from stage.latents import CachedLatents
from stage.masks import area_balance
from stage.params import ConfigError, Method, Params, Prompts, Train
from stage.prompts import placeholders, prompts
from stage.schedule import Branch, paper_timestep, training_alignment_masks
from stage.seeds import derived_seed
from stage.tokens import add_tokens


class Generator(nn.Module):
    """A base with what STAGE adds for one category: an adapter per branch, and tokens inside the text encoder."""

    def __init__(
        self, base: Base, category: str, types: tuple[str, ...], token_count: int, widths: tuple[int, ...], *, residual: bool
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.codec = base.modules()
        self.base, self.category, self.types, self.token_count, self.widths, self.residual = (
            base,
            category,
            types,
            token_count,
            widths,
            residual,
        )
        self.token_rows = add_tokens(base, types, token_count)
        self.adapters = nn.ModuleDict(
            {branch: MaskGuidanceAdapter(base.channels, widths, residual=residual) for branch in ("anomaly_aware", "anomaly_only")}
        )

    @property
    def token_weights(self) -> nn.Parameter:
        """The embedding matrix (vocabulary, D); `token_rows` are ours."""
        return self.base.text_encoder.get_input_embeddings().weight

    def conditions(self, templates: Prompts) -> dict[Branch, Tensor]:
        """Text conditions (types, L, D) of the two branches, rows in the order of `types`."""
        pairs = [prompts(templates, self.category, placeholders(number, self.token_count)) for number in range(len(self.types))]
        aware, only = zip(*pairs, strict=True)
        return {"anomaly_aware": self.base.embed(aware), "anomaly_only": self.base.embed(only)}

    def predict_noise(self, x_t: Tensor, t: Tensor | int, branch: Branch, mask: Tensor, condition: Tensor) -> Tensor:
        """Noise estimate (B, C, h, w) of one branch: the frozen network's, refined by the branch's adapter under the branch's mask."""
        return self.adapters[branch](self.base.predict_noise(x_t, t, condition), mask)


class Trained(NamedTuple):
    """A trained generator, the range of its training latents, (C, 1, 1) each, and the loss curve."""

    generator: Generator
    bounds: tuple[Tensor, Tensor]
    curve: pd.DataFrame


def train(base: Base, data: DefectImages, params: Params, *, state: Path) -> Trained:
    """Train a category's adapters and tokens on the frozen base; an unfinished training in `state` is continued."""
    settings = params.train
    if (found := base.schedule.timestep_count) != params.base.timestep_count:
        raise ConfigError(
            f"Expected a base of {params.base.timestep_count} timesteps (base.timestep_count in params.yaml), found {found}. Correct the number."
        )
    check_image_size(data.images.shape[1], base.multiple)
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        generator = Generator(
            base, data.category, data.types, params.method.token_count, settings.adapter_widths, residual=settings.residual
        ).to(device(params.execution.device))
    cached = CachedLatents.encode(base, data, params.method, augment=settings.augment)
    loss = StageLoss(generator, cached, params.method, settings, params.base.prompts, params.seed)
    optimizer, modules = optimise(generator, settings)
    curve = Fit(f"train {data.category}", modules, optimizer, settings.iterations, state, params.execution.save_every_s).run(loss)
    return Trained(generator.to("cpu"), cached.bounds, curve)


def optimise(generator: Generator, settings: Train) -> tuple[torch.optim.Optimizer, dict[str, nn.Module]]:
    """AdamW over the adapters and the learned rows of the embedding matrix (and a small base's U-Net, where asked), with their modules."""
    generator.eval().requires_grad_(False)
    embeddings = generator.base.text_encoder.get_input_embeddings()
    modules: dict[str, nn.Module] = {"adapters": generator.adapters.train(), "embeddings": embeddings}
    if settings.train_base:
        modules["unet"] = generator.base.unet
    for module in modules.values():
        module.requires_grad_(True)
    ours = torch.zeros_like(embeddings.weight[:, :1]).index_fill_(0, generator.token_rows.to(embeddings.weight.device), 1)
    embeddings.weight.register_hook(lambda gradient: gradient * ours)
    decayed = [p for name, module in modules.items() if name != "embeddings" for p in module.parameters()]
    groups = [{"params": decayed}, {"params": [embeddings.weight], "weight_decay": 0.0}]  # decay would move the words that are not ours
    return torch.optim.AdamW(groups, lr=settings.learning_rate), modules


class StageLoss:
    """Eq. 12 as III-B and III-D describe it.

    The equation prints epsilon_ao for the whole latent and epsilon_aa, weighted, for the masked one. The text and the released
    code say the reverse, and so do we: the aware branch sees x_0 and M_t^p, the only-branch sees x_0 * M_0 and M_0.
    """

    def __init__(self, generator: Generator, data: CachedLatents, method: Method, train: Train, templates: Prompts, seed: int) -> None:
        self.generator, self.data, self.method, self.train, self.templates, self.seed = generator, data, method, train, templates, seed
        self.timestep_count = generator.base.schedule.timestep_count

    def __call__(self, iteration: int) -> Losses:
        """A pure function of the weights and the iteration."""
        random = torch.Generator().manual_seed(derived_seed(self.seed, iteration))
        rows = torch.randint(len(self.data.latents), (self.train.batch,), generator=random)
        variants = torch.randint(self.data.latents.shape[1], (self.train.batch,), generator=random)
        x_0, mask, types = self.data.latents[rows, variants], self.data.masks[rows, variants], self.data.types[rows]
        conditions = self.generator.conditions(self.templates)
        weights = area_balance(mask, self.train.balance_limit)
        t = torch.randint(self.timestep_count, (self.train.batch,), generator=random)
        aligned = training_alignment_masks(mask, t, threshold=self._threshold(), timestep_count=self.timestep_count)
        shown = self._shown(x_0, mask, t, random)
        aware = self._error("anomaly_aware", shown, x_0, t, aligned, conditions["anomaly_aware"][types], random) * aligned
        only = self._error("anomaly_only", shown * mask, x_0 * mask, t, mask, conditions["anomaly_only"][types], random)
        losses = {"aware": (weights * aware).mean(), "only": (weights * only).mean()}
        return {"loss": losses["aware"] + losses["only"], **losses}

    def _shown(self, x_0: Tensor, mask: Tensor, t: Tensor, random: torch.Generator) -> Tensor:
        """x_0, or, in `hidden_share` of the rows above t_s, x_0 with its defect replaced by a normal image's latents.

        Not in the paper. A weak network lets a faint defect fade into normal texture on its way down and has never seen such
        a state; here it learns to find back from it.
        """
        others = self.data.normal[torch.randint(len(self.data.normal), (len(x_0),), generator=random)]
        hidden = (torch.rand(len(x_0), generator=random) < self.train.hidden_share) & (paper_timestep(t) > self.method.alignment_threshold)
        return torch.where(hidden.to(x_0.device)[:, None, None, None], compose(mask, others, x_0), x_0)

    def _error(
        self, branch: Branch, shown: Tensor, x_0: Tensor, t: Tensor, mask: Tensor, condition: Tensor, random: torch.Generator
    ) -> Tensor:
        """Distance of the branch's estimate from the noise that leads from x_t back to x_0: the noise drawn, where x_0 was shown."""
        schedule = self.generator.base.schedule
        noise = torch.randn(x_0.shape, generator=random).to(x_0.device)
        target = noise + noised(shown - x_0, t, torch.zeros_like(noise), schedule) / noised(
            torch.zeros_like(noise), t, torch.ones_like(noise), schedule
        )
        estimate = self.generator.predict_noise(noised(shown, t, noise, schedule), t.to(x_0.device), branch, mask, condition)
        return (target - estimate).abs()

    def _threshold(self) -> int | None:
        return self.method.alignment_threshold if self.method.alignment == "scheduled" else None
