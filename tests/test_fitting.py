import os
import signal
from itertools import pairwise

import pytest
import torch
from miniatures import interruptible
from safetensors.torch import load_file
from torch import nn

from stage.core.errors import TrainingError
from stage.core.fitting import Fit, learning_rate_factor
from stage.core.progress import Interrupted


class Line:
    """A small regression: batch normalisation has buffers, AdamW has moments, both must survive."""

    def __init__(self, folder, *, iterations=30, save_every_s=1e6, interrupt_at=None, seed=0, scaler=None):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.interrupt_at = interrupt_at
        self.asked = []
        self.updates = 0
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.05)
        state, scaler = folder / "state.safetensors", scaler or torch.amp.GradScaler(enabled=False)
        self.fit = Fit("line", {"network": self.network}, optimizer, iterations, state, save_every_s, self.count, scaler)

    def count(self):
        self.updates += 1

    def losses(self, iteration):
        self.asked.append(iteration)
        if iteration == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(iteration))
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss, "half": loss / 2}

    def parts(self, iteration):
        """The same loss as a sum of three terms."""
        for share in (0.5, 0.3, 0.2):
            yield [lambda share=share: {name: share * loss for name, loss in self.losses(iteration).items()}]


def scaler():
    """A scale that is lost to an overflow at once, and doubled every fourth update."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=4)


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


@pytest.mark.parametrize("interrupt_at", [0, 1, 17])
def test_an_interrupted_scale_goes_on_where_it_was(tmp_path, interrupt_at):
    """Otherwise a float16 training would find its scale anew after a kill, and skip other updates than an uninterrupted one."""
    whole = Line(tmp_path / "whole", scaler=scaler())
    curve = whole.fit.run(whole.losses)
    first = Line(tmp_path / "parts", interrupt_at=interrupt_at, scaler=scaler())
    with interruptible(), pytest.raises(Interrupted):
        first.fit.run(first.losses)
    second = Line(tmp_path / "parts", seed=1, scaler=scaler())
    assert second.fit.run(second.losses).equals(curve)
    assert same(second.network, whole.network)
    assert second.fit.scaler.state_dict() == whole.fit.scaler.state_dict()
    skipped = 30 - int(load_file(tmp_path / "parts" / "state.safetensors")["optimizer.0.step"])
    assert 0 < skipped < 15


def test_a_scale_changes_no_gradient(tmp_path):
    """Otherwise float16 would train at another rate: a power of two divides out exactly, and clipping comes after it."""
    plain, scaled = Line(tmp_path / "plain"), Line(tmp_path / "scaled", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10))
    assert scaled.fit.run(scaled.losses).equals(plain.fit.run(plain.losses))
    assert same(scaled.network, plain.network)


def test_parts_are_one_update(tmp_path):
    """Otherwise accumulation would step after each part: thirty updates, the sum as the curve, nearly the same weights."""
    whole, parts = Line(tmp_path / "whole", iterations=10), Line(tmp_path / "parts", iterations=10)
    curve = whole.fit.run(whole.losses)
    assert parts.fit.run_in_parts(parts.parts)["loss"].tolist() == pytest.approx(curve["loss"].tolist(), rel=1e-3)
    assert parts.updates == 10
    assert parts.asked == [i for i in range(10) for _ in range(3)]
    assert int(load_file(tmp_path / "parts" / "state.safetensors")["optimizer.0.step"]) == 10


def test_a_part_goes_back_before_the_next_is_asked_for(tmp_path):
    """Otherwise the activations of all parts would lie in memory together, and accumulation save nothing."""
    line, seen = Line(tmp_path, iterations=1), []

    def parts(iteration):
        for losses in line.parts(iteration):
            yield losses
            seen.append(line.network[0].weight.grad.abs().sum().item())

    line.fit.run_in_parts(parts)
    assert len(seen) == 3
    assert 0 < seen[0] < seen[1] < seen[2]


def test_a_fit_that_is_run_again_keeps_its_learning_rate(tmp_path):
    """Otherwise a training continued in the same process would start from the rate that it was stopped at."""
    whole = Line(tmp_path / "whole")
    whole.fit.run(whole.losses)
    line = Line(tmp_path / "parts", interrupt_at=20)
    with interruptible(), pytest.raises(Interrupted):
        line.fit.run(line.losses)
    line.interrupt_at = None
    line.fit.run(line.losses)
    assert same(line.network, whole.network)


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


@pytest.mark.parametrize("place", [3, 40, -9])
def test_a_damaged_state_is_not_continued(tmp_path, capsys, place):
    """Otherwise one flipped bit would be trained on for hours, or every further run would end in a traceback: in the header's length, the header and a tensor."""
    whole = Line(tmp_path / "whole")
    curve = whole.fit.run(whole.losses)
    line = Line(tmp_path / "parts", interrupt_at=13)
    with interruptible(), pytest.raises(Interrupted):
        line.fit.run(line.losses)
    state = tmp_path / "parts" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[place] ^= 1
    state.write_bytes(content)

    again = Line(tmp_path / "parts")
    assert again.fit.run(again.losses).equals(curve)
    assert same(again.network, whole.network)
    assert "Expected the state of line" in (said := capsys.readouterr().err)
    assert "It begins again." in said


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


def steep(weight):
    """Finite at zero, with a slope that is not."""
    return (weight * 0).abs().sqrt().sum()


def test_gradients_that_are_not_finite_are_refused_before_they_spoil_the_weights(tmp_path):
    """Otherwise one bad gradient behind a finite loss would turn every weight to nan at the next step."""
    line = Line(tmp_path)
    before = line.network[0].weight.detach().clone()
    with pytest.raises(
        TrainingError, match=r"finite gradients, found a norm of nan in line at iteration 0\. Lower its learning_rate, or set"
    ):
        line.fit.run(lambda _: {"loss": steep(line.network[0].weight)})
    assert torch.equal(line.network[0].weight, before)


def test_a_scaler_ends_where_no_scale_helps(tmp_path):
    """Otherwise a float16 training would skip every update to its end, and publish what it began with."""
    line = Line(tmp_path, iterations=100, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    with pytest.raises(TrainingError, match=r"finite gradients, found a norm of nan in line at iteration 3"):
        line.fit.run(lambda _: {"loss": steep(line.network[0].weight)})


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
