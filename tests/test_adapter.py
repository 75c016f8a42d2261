import pytest
import torch

from stage.model.adapter import MaskGuidanceAdapter

RELEASED = (64, 256, 512, 256, 64)


def small(*, residual=False, widths=(8, 8)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaskGuidanceAdapter(4, widths, residual=residual)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_released_widths_have_the_released_size():
    """Otherwise the adapter would not be the paper's: 2.7 million parameters each for four latent channels."""
    adapter = MaskGuidanceAdapter(4, RELEASED, residual=False)
    count = sum(p.numel() for p in adapter.parameters())
    by_hand = sum(9 * a * b + 2 * b for a, b in zip((8, *RELEASED), RELEASED, strict=False)) + 64 * 4 + 4
    assert count == by_hand
    assert count == pytest.approx(2.7e6, rel=0.03)


def test_blocks_are_convolution_normalisation_rectifier():
    """Otherwise the order would be neither the released code's nor the documented one."""
    names = [type(layer).__name__ for layer in small().blocks]
    assert names == ["Conv2d", "BatchNorm2d", "ReLU"] * 2


def test_residual_adapter_starts_as_identity():
    """Otherwise a small base would lose what it knows at the first iteration."""
    eps = normal(2, 4, 8, 8)
    assert torch.equal(small(residual=True).eval()(eps, torch.ones(2, 1, 8, 8)), eps)


def test_residual_is_the_estimate_plus_the_replacement():
    """Otherwise the switch would change more than it says: with equal weights the two differ by the estimate."""
    adding, replacing = small(residual=True).eval(), small(residual=False).eval()
    adding.load_state_dict(replacing.state_dict())
    eps, mask = normal(2, 4, 8, 8), (normal(2, 1, 8, 8, seed=1) > 0).float()
    assert torch.allclose(adding(eps, mask), eps + replacing(eps, mask), atol=1e-6)


def test_mask_changes_the_estimate_near_itself_alone():
    """Otherwise the adapter could not know where the defect is to be; two 3x3 convolutions see two cells far."""
    adapter, eps = small().eval(), normal(1, 4, 12, 12)
    dot = torch.zeros(1, 1, 12, 12)
    dot[..., 6, 6] = 1
    changed = (adapter(eps, dot) != adapter(eps, torch.zeros_like(dot))).any(1)[0]
    assert changed[6, 6]
    assert not changed[:4].any()
    assert not changed[:, 9:].any()


def test_every_parameter_learns():
    """Otherwise a block would be built and never used."""
    adapter = small(residual=True)
    torch.nn.init.normal_(adapter.project.weight)
    adapter(normal(2, 4, 8, 8), torch.ones(2, 1, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())
