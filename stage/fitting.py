"""The training loop that `pretrain` and `train` share: resumable to the bit, stoppable between two updates."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stage.progress import Interrupted, track

Losses = dict[str, Tensor]
GRADIENT_NORM = 1.0  # clipped to; keeps a small network stable at these learning rates


class TrainingError(ValueError):
    """A training that cannot go on."""


@dataclass(frozen=True)
class Fit:
    """What a training updates, for how long, and where its unfinished state lies.

    `modules` are saved and restored, `optimizer` updates some of their parameters, `state` is a safetensors file.
    """

    label: str
    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    iterations: int
    state: Path
    save_every_s: float
    after_update: Callable[[], None] = lambda: None

    def run(self, losses_at: Callable[[int], Losses]) -> pd.DataFrame:
        """Minimise `losses_at(iteration)["loss"]`, a pure function of the iteration and the weights; returns the curve, a row an iteration."""
        curve = self._resume()
        saved = time.monotonic()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        todo = range(len(curve), self.iterations)
        try:
            for iteration in track(todo, total=self.iterations, label=self.label, done=len(curve)):
                curve.append(self._update(iteration, rates, losses_at))
                if time.monotonic() - saved > self.save_every_s:
                    self._save(curve)
                    saved = time.monotonic()
        except Interrupted:
            self._save(curve)
            raise
        self._save(curve)
        # Names sorted: a resumed curve comes back in the file's order, and must not differ in its columns.
        return pd.DataFrame([{"iteration": i, **dict(sorted(row.items()))} for i, row in enumerate(curve)])

    def _update(self, iteration: int, rates: list[float], losses_at: Callable[[int], Losses]) -> dict[str, float]:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * learning_rate_factor(iteration, self.iterations)
        losses = losses_at(iteration)
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(
                f"Expected a finite loss, found {losses['loss'].item()} in {self.label} at iteration {iteration}. Lower its learning_rate."
            )
        self.optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], GRADIENT_NORM)
        self.optimizer.step()
        self.after_update()
        return {name: loss.item() for name, loss in losses.items()}

    def _save(self, curve: list[dict[str, float]]) -> None:
        tensors = {f"{name}.{key}": value for name, module in self.modules.items() for key, value in module.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        tensors |= {
            f"curve.{name}": torch.tensor([row[name] for row in curve], dtype=torch.float64) for name in (curve[0] if curve else ())
        }
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_suffix(".tmp")
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.state)

    def _resume(self) -> list[dict[str, float]]:
        if not self.state.exists():
            return []
        tensors = load_file(self.state)
        for name, module in self.modules.items():
            module.load_state_dict(_below(tensors, name))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimizer").items():
            index, kind = key.split(".")
            moments.setdefault(int(index), {})[kind] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        columns = {name: values.tolist() for name, values in _below(tensors, "curve").items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Linear warm-up over the first twentieth, then a cosine to a hundredth."""
    warmup = max(1, iterations // 20)
    if iteration < warmup:
        return (iteration + 1) / warmup
    share = torch.tensor((iteration - warmup) / max(1, iterations - warmup))
    return float(0.01 + 0.99 * (1 + torch.cos(share * torch.pi)) / 2)


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
