"""The training loss of STAGE (Eq. 12), one branch and one part of the batch at a time.

Shapes: B batch, C latent channels, h w latent size, K distinct prompts, L text length, D text channels; masks (B, 1, h, w) in {0, 1}.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from stage.core.device import autocast, dtype_of
from stage.core.digests import derived_seed
from stage.core.fitting import Losses, Part
from stage.core.model_params import Prompts, StageMethod, Train
from stage.model.diffusion import compose, noise_excess, noised
from stage.model.generator import BRANCHES, Generator
from stage.model.latents import CachedLatents
from stage.model.masks import area_balance
from stage.model.schedule import Branch, paper_timestep, training_alignment_masks
from stage.model.tokens import TextConditions


class Draws(NamedTuple):
    """The draws of one iteration, B rows each. `shown` is x_0, or x_0 with its defect hidden; each branch has its own noise."""

    types: Tensor
    x_0: Tensor
    shown: Tensor
    mask: Tensor
    t: Tensor
    noise_aware: Tensor
    noise_only: Tensor

    def split(self, parts: int) -> "list[Draws]":
        """Equal parts of the rows."""
        return [Draws(*fields) for fields in zip(*(field.chunk(parts) for field in self), strict=True)]


class StageLoss:
    """Eq. 12 as III-B and III-D describe it.

    The equation prints epsilon_ao for the whole latent and epsilon_aa, weighted, for the masked one. The text and the released
    code say the reverse, as does this class: the anomaly-aware branch sees x_0 and M_t^p, the anomaly-only branch x_0 * M_0 and M_0.
    """

    def __init__(
        self, generator: Generator, data: CachedLatents, method: StageMethod, train: Train, *, templates: Prompts, seed: int
    ) -> None:
        self.generator, self.data, self.method, self.train, self.seed = generator, data, method, train, seed
        self.timestep_count = generator.base.schedule.timestep_count
        self.device = data.latents.device
        self.dtype = dtype_of(train.precision, str(self.device))
        with autocast(self.device, self.dtype):
            self.conditions = TextConditions(generator.base, generator.texts(templates), generator.placeholders)

    def __call__(self, iteration: int) -> Iterator[list[Part]]:
        """Yield the iteration's loss in summands, both branches of one part of the batch together; a pure function of weights and iteration.

        Back-propagate a part before taking the next, so that only its activations are held.
        """
        batch = self._draw(iteration)
        with autocast(self.device, self.dtype):
            conditions = self.conditions(batch.types)
        # All summands share the text encoder's graph: their gradients are collected here and back-propagated through it once.
        table = conditions.table.detach().requires_grad_(conditions.table.requires_grad)
        rows = {branch: numbers.chunk(self.train.accumulate) for branch, numbers in conditions.rows.items()}
        # Batch normalisation sees each part alone, so the adapters' statistics are those of the smaller batch.
        for k, part in enumerate(batch.split(self.train.accumulate)):
            yield [partial(self._summand, branch, part, table, rows[branch][k]) for branch in BRANCHES]
        if table.grad is not None:
            conditions.table.backward(table.grad)

    def _draw(self, iteration: int) -> Draws:
        random = torch.Generator().manual_seed(derived_seed(self.seed, iteration))
        rows = torch.randint(len(self.data.latents), (self.train.batch,), generator=random)
        variants = torch.randint(self.data.latents.shape[1], (self.train.batch,), generator=random)
        x_0, mask = self.data.latents[rows, variants], self.data.masks[rows, variants]
        t = torch.randint(self.train.timesteps_below, (self.train.batch,), generator=random)
        shown = self._shown(x_0, mask, t, self.data.normals(rows, variants, random), random)
        noises = [torch.randn(x_0.shape, generator=random).to(self.device) for _ in BRANCHES]
        return Draws(self.data.types[rows], x_0, shown, mask, t, *noises)

    def _shown(self, x_0: Tensor, mask: Tensor, t: Tensor, normals: Tensor, random: torch.Generator) -> Tensor:
        """x_0, with its defect replaced by a normal image's latents, those of the numbers `normals`, in a share `hidden_share` of the rows above t_s.

        Not in the paper. While sampling, a weak network lets a faint defect fade into normal texture, a state that plain
        training never shows; here it learns to recover from it.
        """
        hidden = (torch.rand(len(x_0), generator=random) < self.train.hidden_share) & (paper_timestep(t) > self.method.alignment_threshold)
        if not hidden.any():  # a training that hides none holds no latents of normal images
            return x_0
        return torch.where(hidden.to(x_0.device)[:, None, None, None], compose(mask, self.data.normal[normals], x_0), x_0)

    def _summand(self, branch: Branch, part: Draws, table: Tensor, rows: Tensor) -> Losses:
        """The share of one branch and part in the batch's mean; `rows` of the table are its conditions."""
        condition = table[rows]
        weights = area_balance(part.mask, self.train.balance_limit)
        if branch == "anomaly_aware":
            aligned = training_alignment_masks(part.mask, part.t, threshold=self._threshold(), timestep_count=self.timestep_count)
            error = self._error(branch, part.shown, part.x_0, part.t, aligned, condition=condition, noise=part.noise_aware) * aligned
        else:
            error = self._error(
                branch, part.shown * part.mask, part.x_0 * part.mask, part.t, part.mask, condition=condition, noise=part.noise_only
            )
        loss = (weights * error).mean() / self.train.accumulate
        return {"loss": loss, branch.removeprefix("anomaly_"): loss}

    def _error(self, branch: Branch, shown: Tensor, x_0: Tensor, t: Tensor, mask: Tensor, *, condition: Tensor, noise: Tensor) -> Tensor:
        """Absolute error of the branch's estimate of the noise that leads from x_t back to x_0; if x_0 was shown, the drawn noise."""
        schedule = self.generator.base.schedule
        target = noise + noise_excess(shown - x_0, t, schedule)
        x_t = noised(shown, t, noise, schedule)
        with autocast(self.device, self.dtype):
            estimate = self.generator.predict_noise(x_t, t.to(self.device), branch, mask, condition)
        return (target - estimate).abs()

    def _threshold(self) -> int | None:
        return self.method.alignment_threshold if self.method.alignment == "scheduled" else None
