"""The training loop that `pretrain` and `train` share: resumable to the bit, stoppable between two updates."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from stage.core.at_once import Each, two_at_once
from stage.core.errors import TrainingError
from stage.core.progress import Interrupted, track
from stage.core.sealed_tensors import read_sealed_tensors, write_sealed_tensors

Losses = dict[str, Tensor]
Part = Callable[[], Losses]
GRADIENT_NORM = 1.0  # clipped to; keeps a small network stable at these learning rates


@dataclass(frozen=True)
class Fit:
    """What a training updates, for how long, and where its unfinished state lies.

    `modules` are saved and restored, `optimizer` updates some of their parameters, `state` is a file of sealed tensors; from a damaged one
    the training begins again.
    `at_once`: compute two parts of a loss at once, each with half of torch's threads. Small networks gain nothing from a second thread.
    """

    label: str
    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    iterations: int
    state: Path
    save_every_s: float
    after_update: Callable[[], None] = lambda: None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    at_once: bool = False

    def run(self, losses_at: Callable[[int], Losses]) -> pd.DataFrame:
        """Minimise `losses_at(iteration)["loss"]`, a pure function of the iteration and the weights; returns the curve, a row per iteration."""
        return self.run_in_parts(in_one_part(losses_at))

    def run_in_parts(self, parts_at: Callable[[int], Iterable[Sequence[Part]]]) -> pd.DataFrame:
        """As `run`, for losses that are sums: each group of parts is backpropagated before the next one is requested.

        With `at_once` there may be one group, of two parts at most: the sum of two gradients is the same in either order, that of three is not.
        """
        with two_at_once() if self.at_once else nullcontext(map) as each:
            return self._run(parts_at, each)

    def _run(self, parts_at: Callable[[int], Iterable[Sequence[Part]]], each: Each) -> pd.DataFrame:
        curve = self._resume()
        saved = time.monotonic()
        rates = [group.setdefault("initial_lr", group["lr"]) for group in self.optimizer.param_groups]
        todo = range(len(curve), self.iterations)
        try:
            for iteration in track(todo, total=self.iterations, label=self.label, done=len(curve)):
                curve.append(self._update(iteration, rates, parts_at(iteration), each))
                if time.monotonic() - saved > self.save_every_s:
                    self._save(curve)
                    saved = time.monotonic()
        except Interrupted:
            self._save(curve)
            raise
        self._save(curve)
        # Names sorted: a resumed curve comes back in the file's order, and must not differ in its columns.
        return pd.DataFrame([{"iteration": i, **dict(sorted(row.items()))} for i, row in enumerate(curve)])

    def _update(self, iteration: int, rates: list[float], groups: Iterable[Sequence[Part]], each: Each = map) -> dict[str, float]:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * learning_rate_factor(iteration, self.iterations)
        self.optimizer.zero_grad()
        totals = self._backward(groups, each)
        self.scaler.unscale_(self.optimizer)
        learning = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        total_norm = nn.utils.get_total_norm([p.grad for p in learning])
        *values, norm = torch.stack([*totals.values(), total_norm]).tolist()  # one wait for the device
        row = dict(zip(totals, values, strict=True))
        self._check(iteration, row["loss"], norm)
        if norm > GRADIENT_NORM:
            nn.utils.clip_grads_with_norm_(learning, GRADIENT_NORM, total_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.after_update()
        return row

    def _backward(self, groups: Iterable[Sequence[Part]], each: Each) -> Losses:
        totals: Losses = {}
        for losses in (losses for group in groups for losses in each(self._part_backward, group)):
            for name, loss in losses.items():
                totals[name] = totals[name] + loss if name in totals else loss
        return totals

    def _part_backward(self, part: Part) -> Losses:
        losses = part()
        self.scaler.scale(losses["loss"]).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _check(self, iteration: int, loss: float, norm: float) -> None:
        place = f"in {self.label} at iteration {iteration}. Lower its learning_rate"
        if not math.isfinite(loss):
            raise TrainingError(f"Expected a finite loss, found {loss} {place}.")
        # A scaler lowers its scale after an overflow and skips that update; without one, or at the lowest scale, the training ends.
        if not math.isfinite(norm) and self.scaler.get_scale() <= 1:
            raise TrainingError(f"Expected finite gradients, found a norm of {norm} {place}, or set its precision to float32.")

    def _save(self, curve: list[dict[str, float]]) -> None:
        tensors = {f"{name}.{key}": value for name, module in self.modules.items() for key, value in module.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        tensors |= {f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in self.scaler.state_dict().items()}
        tensors |= {
            f"curve.{name}": torch.tensor([row[name] for row in curve], dtype=torch.float64) for name in (curve[0] if curve else ())
        }
        write_sealed_tensors(tensors, self.state)

    def _resume(self) -> list[dict[str, float]]:
        try:
            tensors = read_sealed_tensors(self.state)
        except FileNotFoundError:
            return []
        except ValueError as error:
            sys.stderr.write(f"Expected the state of {self.label} in {self.state}, found {error}. It begins again.\n")
            return []
        for name, module in self.modules.items():
            module.load_state_dict(below(tensors, name))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in below(tensors, "optimizer").items():
            index, kind = key.split(".")
            moments.setdefault(int(index), {})[kind] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        saved = below(tensors, "scaler")
        self.scaler.load_state_dict({key: type(value)(saved[key].item()) for key, value in self.scaler.state_dict().items()})
        columns = {name: values.tolist() for name, values in below(tensors, "curve").items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def in_one_part(losses_at: Callable[[int], Losses]) -> Callable[[int], list[list[Part]]]:
    """A loss as a single part."""
    return lambda iteration: [[partial(losses_at, iteration)]]


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Linear warm-up over the first twentieth, then a cosine to a hundredth."""
    warmup = max(1, iterations // 20)
    if iteration < warmup:
        return (iteration + 1) / warmup
    share = torch.tensor((iteration - warmup) / max(1, iterations - warmup))
    return float(0.01 + 0.99 * (1 + torch.cos(share * torch.pi)) / 2)


def below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `name` and a dot, by the rest of their names."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
