import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.memory import BLOCK, LiveBytes

MIB = 2**20


def test_what_lives_at_once_by_hand():
    """Otherwise the memory that is stated for the paper's base would be of nothing: three MiB, one let go, two more."""
    with LiveBytes() as count:
        first, second = torch.zeros(MIB // 4), torch.zeros(2 * MIB // 4)
        view = second.reshape(2, -1)  # shares its storage
        del first
        third = torch.zeros(2 * MIB // 4)
        assert (count.live, count.peak) == (4 * MIB, 4 * MIB)
        del second, third
        assert count.live == 2 * MIB
        del view
        assert count.live == 0
        tiny = torch.zeros(1)
        assert (count.live, count.peak, len(tiny)) == (BLOCK, 4 * MIB, 1)


def forward_and_back():
    """Of three layers of 256 x 256 with ReLU, on 1024 rows: what autograd holds is 1 MiB a layer's input and a rectifier's output."""
    layers = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(256, 256, bias=False), nn.ReLU())))
    layers(torch.zeros(1024, 256)).sum().backward()


def test_shapes_alone_count_as_much_as_numbers():
    """Otherwise the count without weights would not be that of the network it stands for."""
    with LiveBytes() as real:
        forward_and_back()
    with FakeTensorMode(), LiveBytes() as fake:
        forward_and_back()
    assert fake.peak == real.peak
    assert 4 * MIB + 3 * MIB // 4 <= fake.peak <= 8 * MIB
