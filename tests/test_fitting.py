import os
import signal
from itertools import pairwise

import pytest
import torch
from miniatures import interruptible
from safetensors.torch import load_file
from torch import nn

from stage.fitting import Fit, TrainingError, learning_rate_factor
from stage.progress import Interrupted


class Line:
    """A small regression: batch normalisation has buffers, AdamW has moments, both must survive."""

    def __init__(self, folder, *, iterations=30, save_every_s=1e6, interrupt_at=None, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.interrupt_at = interrupt_at
        self.asked = []
        self.updates = 0
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.05)
        self.fit = Fit("line", {"network": self.network}, optimizer, iterations, folder / "state.safetensors", save_every_s, self.count)

    def count(self):
        self.updates += 1

    def losses(self, iteration):
        self.asked.append(iteration)
        if iteration == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(iteration))
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss, "half": loss / 2}


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("interrupt_at", [0, 13, 28])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(tmp_path, interrupt_at):
    """Otherwise Ctrl-C would change the result, and a sample could not be traced to a checkpoint that anyone can make again."""
    whole = Line(tmp_path / "whole")
    curve = whole.fit.run(whole.losses)
    first = Line(tmp_path / "parts", interrupt_at=interrupt_at)
    with interruptible(), pytest.raises(Interrupted):
        first.fit.run(first.losses)
    assert first.asked == list(range(interrupt_at + 1))
    second = Line(tmp_path / "parts", seed=1)
    resumed = second.fit.run(second.losses)
    assert second.asked == list(range(interrupt_at + 1, 30))
    assert same(second.network, whole.network)
    assert resumed.equals(curve)
    assert curve["iteration"].tolist() == list(range(30))


def test_states_are_saved_on_the_way(tmp_path):
    """Otherwise a kill without warning would lose everything: the state here is that of the last update but none."""
    line = Line(tmp_path, save_every_s=0.0)
    line.fit.run(line.losses)
    assert len(load_file(tmp_path / "state.safetensors")["curve.loss"]) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    again = Line(tmp_path, seed=1)
    again.fit.run(again.losses)
    assert again.asked == []
    assert same(again.network, line.network)


def test_curve_has_every_loss_of_every_iteration(tmp_path):
    """Otherwise the report would draw another training than the one that was run."""
    line = Line(tmp_path, iterations=4)
    curve = line.fit.run(line.losses)
    assert list(curve.columns) == ["iteration", "half", "loss"]
    assert (curve["loss"] / 2).tolist() == pytest.approx(curve["half"].tolist())
    assert line.updates == 4


def test_training_learns(tmp_path):
    """Otherwise the loop would walk without updating anything."""
    line = Line(tmp_path, iterations=300)
    curve = line.fit.run(line.losses)
    assert curve["loss"][-20:].mean() < 0.5 * curve["loss"][:20].mean()


def test_a_loss_that_is_not_finite_is_refused_before_it_spoils_the_weights(tmp_path):
    """Otherwise a diverged training would go on for hours and publish a checkpoint of nan."""
    line = Line(tmp_path)
    with pytest.raises(TrainingError, match=r"finite loss, found (nan|inf) in line at iteration 2. Lower its learning_rate"):
        line.fit.run(lambda i: {"loss": line.losses(i)["loss"] / (0.0 if i == 2 else 1.0)})
    assert all(torch.isfinite(p).all() for p in line.network.parameters())


def test_learning_rate_by_hand():
    """Otherwise the schedule would not be what is written: five updates up, then a cosine, half of it in the middle."""
    factors = [learning_rate_factor(i, 105) for i in range(105)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[55] == pytest.approx(0.505)
    assert all(before > after for before, after in pairwise(factors[5:]))
    assert 0.01 < factors[-1] < 0.02


def test_one_iteration_is_a_whole_training():
    """Otherwise a micro setting would divide by zero or train at rate zero."""
    assert learning_rate_factor(0, 1) == 1.0
