"""Defects of 1, 2, 4 and 8 px, made by a network that always knows them: what of them is there in the end, at the place of the mask.

The network's noise leads exactly to white, everywhere; the photographs are grey. So whatever is missing was lost by a mask.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from miniatures import small_base, small_params
from scipy import ndimage
from torch import Tensor, nn

from stage.core.params import Params
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.datasets.windows import cut, window
from stage.model.checkpoints import Checkpoint
from stage.model.codec import PatchCodec
from stage.model.generator import Generator
from stage.model.masks import latent_mask
from stage.model.schedule import NoiseSchedule
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import NamedMask, PlanRow, Verdict
from stage.synthesis.source import Source

GREY, WHITE = 100, 255
SIZE = 64  # px; what the base works at
SIZES = (1, 2, 4, 8)
CORNERS = ((16, 16), (19, 22), (0, 61), (30, 37))  # of a latent cell, across cells, at the image's border, anywhere
VISIBLE = 0.55 * (WHITE - GREY)  # of 255; the softened rim leaves 0.60 of a whole 8 px defect


class AllWhite(nn.Module):
    """In the U-Net's place: the noise by which white latents became x_t."""

    def __init__(self, schedule: NoiseSchedule, channels: int) -> None:
        super().__init__()
        self.schedule, self.config, self.device = schedule, {"in_channels": channels}, torch.device("cpu")

    def forward(self, x_t: Tensor, t: int, _condition: Tensor) -> SimpleNamespace:
        bar = self.schedule.alpha_bar(t)
        return SimpleNamespace(sample=(x_t - bar**0.5) / (1 - bar) ** 0.5)


def parameters(reduction: str, below: int) -> Params:
    params = small_params()
    crop = params.method.crop.model_copy(update={"below": below, "defect_share": 0.25, "smallest": 16})
    method = params.method.model_copy(update={"mask_reduction": reduction, "crop": crop, "adapters": False, "token_count": 1})
    synthesize = params.synthesize.model_copy(
        update={"batch": 1, "start": "noise", "known_region": "posterior", "steps": 5, "clamp": False}
    )
    return params.model_copy(update={"method": method, "synthesize": synthesize})


def renderer(patch: int, reduction: str, below: int = 0, base_size: int = SIZE) -> StageRenderer:
    """Of a base whose latents are the pixels themselves, `patch` squared of them in a cell."""
    params, base = parameters(reduction, below), small_base()
    base = replace(base, unet=AllWhite(base.schedule, 3 * patch**2), codec=PatchCodec(patch=patch))
    generator = Generator(base, "part", ("spot",), 1, (1,), residual=True, adapters=False)
    checkpoint = Checkpoint(generator, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), "")
    return StageRenderer(
        checkpoint, params.method, params.synthesize, params.base.prompts, pasting=params.paste, image_size=base_size, device="cpu"
    )


def row(mask: np.ndarray) -> PlanRow:
    """The plan row of a mask as it is, on the only background."""
    nothing = {name: kind() for name, kind in PlanRow.__annotations__.items()}
    names = {"category": "part", "defect": "spot", "background_sha256": "grey", "mask_sha256": "mask"}
    return PlanRow(**nothing | names | {"mask_kind": "real", "mask_digest": pixel_digest(mask), "foreground": "none"})


def make(factory: StageRenderer, mask: np.ndarray, background: np.ndarray | None = None) -> tuple[Pair, Verdict]:
    """The sample of a mask on a photograph, grey where none is given, and its verdict."""
    grey = np.full((*mask.shape, 3), GREY, np.uint8) if background is None else background
    pair = Pair(grey, mask)
    (sample,) = factory.render([row(mask)], Source({"grey": pair}, {NamedMask("", "mask"): pair}, {}, {}))
    return sample.pair, verdict_on(sample, grey, "spot", None)


def square(size: int, top: int, left: int) -> np.ndarray:
    """A mask of one square, cut off at the border."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top : top + size, left : left + size] = 1
    return mask


def alone(size: int) -> list[np.ndarray]:
    return [square(size, min(top, SIZE - size), min(left, SIZE - size)) for top, left in CORNERS]


def together() -> np.ndarray:
    """One of every size, none of them near another."""
    return np.maximum.reduce([square(size, 3 + 15 * k, 50 - 14 * k) for k, size in enumerate(SIZES)])


def contrasts(sample: Pair) -> list[float]:
    """Of every defect of a mask: the mean difference to grey at its place, from the pixels alone."""
    difference = np.abs(sample.image.astype(float) - GREY).mean(axis=-1)
    labels, count = ndimage.label(sample.mask, structure=np.ones((3, 3)))
    return [float(difference[labels == k].mean()) for k in range(1, count + 1)]


def visible_share(factory: StageRenderer, masks: list[np.ndarray]) -> float:
    """Of the defects in the masks, those that have most of white's contrast at their place."""
    found = [contrast for mask in masks for contrast in contrasts(make(factory, mask)[0])]
    return float(np.mean([contrast >= VISIBLE for contrast in found]))


@pytest.mark.parametrize("below", [0, 16], ids=["whole", "window"])
@pytest.mark.parametrize("patch", [4, 8])
def test_max_loses_none(patch: int, below: int) -> None:
    """The default would label defects that are not there: pinholes, which are what an inspection is for."""
    factory = renderer(patch, "max", below)

    assert [visible_share(factory, alone(size)) for size in SIZES] == [1.0] * 4
    sample, verdict = make(factory, together())
    assert min(contrasts(sample)) >= VISIBLE
    assert (verdict.components, verdict.visible, verdict.verdict, verdict.reason) == (4, 4, "accepted", "")


@pytest.mark.parametrize(
    ("patch", "below", "shares", "of_all"),
    [
        (4, 0, [0.0, 0.0, 0.5, 0.5], 0.25),
        (8, 0, [0.0, 0.0, 0.0, 0.5], 0.25),
        (4, 16, [1.0, 1.0, 1.0, 1.0], 0.25),
        (8, 16, [0.0, 0.0, 1.0, 1.0], 0.25),
    ],
)
def test_the_released_reduction_loses_small_ones_and_windows_bring_them_back(
    patch: int, below: int, shares: list[float], of_all: float
) -> None:
    """The documentation would be wrong about the released code, and about what windows are good for (measured on 22 November 2026).

    A defect of the patch's size survives where it fills a cell exactly. Windows enlarge 1 to 4 px fourfold; a mask whose defects
    are far from each other gets none, so of four together they bring none back.
    """
    factory = renderer(patch, "released", below)

    assert [visible_share(factory, alone(size)) for size in SIZES] == shares
    assert visible_share(factory, [together()]) == of_all


@pytest.mark.parametrize("below", [0, 16], ids=["whole", "window"])
@pytest.mark.parametrize("patch", [4, 8])
def test_what_the_grid_cannot_hold_is_reported(patch: int, below: int) -> None:
    """A photograph without a defect would be published under a mask that says where it is."""
    factory = renderer(patch, "released", below)

    for mask in [together(), *(mask for size in SIZES for mask in alone(size))]:
        sample, verdict = make(factory, mask)
        found = np.array(contrasts(sample))
        lost, count = int((found == 0).sum()), len(found)
        assert verdict.visible == (found >= VISIBLE).sum()
        assert (verdict.verdict == "accepted") == (verdict.visible == count)
        assert (f"{lost} of {count} defects have no cell on the latent grid" in verdict.reason) == (lost > 0)


@pytest.mark.parametrize("corner", [*CORNERS[:2], (30, 37), (0, 60)])
@pytest.mark.parametrize(("patch", "base_size"), [(4, 64), (8, 256)])
def test_a_window_gives_four_pixels_a_neighbourhood(patch: int, base_size: int, corner: tuple[int, int]) -> None:
    """A 4 px defect would be drawn with one latent cell, which holds no shape."""
    mask = np.pad(square(4, *corner), ((0, base_size - SIZE), (0, base_size - SIZE)))
    crop = parameters("max", 16).method.crop
    shown = latent_mask(cut(mask, window(mask, crop, base_size), base_size), patch, "max")[0].numpy()

    assert min(shown.any(axis).sum() for axis in (0, 1)) >= 3
    assert max(latent_mask(mask, patch, "max")[0].numpy().any(axis).sum() for axis in (0, 1)) <= 2


@pytest.mark.parametrize("below", [0, 16], ids=["pixel by pixel", "enlarged"])
def test_a_large_photograph_keeps_its_resolution(below: int) -> None:
    """An inspection's photographs of thousands of pixels would come back as thumbnails, or changed all over."""
    background = np.tile(np.random.default_rng(0).integers(0, 200, (40, 40, 3), dtype=np.uint8), (50, 50, 1))
    mask = np.zeros((2000, 2000), np.uint8)
    mask[1500:1504, 1234:1238] = 1

    sample, verdict = make(renderer(4, "max", below), mask, background)

    assert verdict.verdict == "accepted"
    assert (sample.image[mask == 1] == WHITE).all()
    assert sample.image.shape == background.shape
    assert np.array_equal((sample.image != background).any(axis=-1), mask)
