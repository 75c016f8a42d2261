"""How well a base denoises real defects: figures that nothing after it can mend."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from miniatures import ROOT, SIZE, defect_images, small_base, small_params

from stage.core.params import load_params
from stage.datasets.demo.dataset import perfect_pairs
from stage.datasets.examples import DefectImages
from stage.model.base import Base, load_base, pixels_to_tensor
from stage.model.denoising import COLUMNS, denoising_errors
from stage.model.files import DENOISING, base_digest
from stage.report.denoising import Denoising, denoising, denoising_verdict


def measured(base: Base, data: DefectImages, seed: int = 0) -> pd.DataFrame:
    params = small_params()
    return denoising_errors(base, data, params.method.crop, params.base.prompts, image_size=SIZE, seed=seed)


SHIPPED = ROOT / "bases" / "textures"
DIGEST = "530ff9b9b9ed9336ab17014145728db09ea72ba37c978e4b066e11acfc05246b"


def test_the_shipped_base_is_the_measured_one() -> None:
    """The published figures would be another base's."""
    assert base_digest(SHIPPED) == DIGEST


def test_the_shipped_base_denoises_parts_that_it_has_never_seen() -> None:
    """Pretraining would begin with a base that a classical filter beats, as one from nothing ends."""
    pairs = perfect_pairs("washer", 4, 128, seed=7)
    images, masks = (np.stack([np.asarray(part) for part in parts]) for parts in zip(*pairs, strict=True))
    data = DefectImages("texture", images, masks, ["texture"] * len(pairs), images[:1])
    params = load_params(ROOT / "params.yaml")
    prompts = params.base.prompts.model_copy(update={"normal": "texture", "defect": "texture", "isolated": "texture"})

    table = denoising_errors(load_base(SHIPPED), data, params.method.crop, prompts, image_size=params.base.image_size, seed=0)

    assert (table.base < 0.98 * table.classical).all(), table


class Knowing(torch.nn.Module):
    """A U-Net that knows the latents, and predicts the noise that is left of x_t without them."""

    def __init__(self, base: Base, latents: torch.Tensor) -> None:
        super().__init__()
        self.base, self.latents, self.config, self.device = base, latents, base.unet.config, base.unet.device

    def forward(self, x_t: torch.Tensor, t: int, _condition: torch.Tensor) -> object:
        bar = self.base.schedule.alpha_bar(t)
        return type("Output", (), {"sample": (x_t - bar**0.5 * self.latents) / (1 - bar) ** 0.5})


def test_a_base_that_knows_the_images_has_no_error() -> None:
    """The figure would measure the noise, or pixels outside the mask."""
    data, base = defect_images(), small_base(prediction="v_prediction")
    whole = small_params().method.crop.model_copy(update={"below": 0})
    latents = base.encode(pixels_to_tensor(data.images))
    knowing = replace(base, unet=Knowing(base, latents), prediction="epsilon")
    table = denoising_errors(knowing, data, whole, small_params().base.prompts, image_size=SIZE, seed=1)

    assert list(table.columns) == list(COLUMNS)
    assert (table.defects == len(data.masks)).all()
    assert table.noise.is_monotonic_increasing
    assert table.noise.between(1, 255).all()
    assert (table.base < 0.01).all()
    assert (table.classical <= table.noise * 1.05).all()


def test_the_errors_of_a_lossless_base_are_those_of_pixels() -> None:
    """An untrained network would look like one that denoises."""
    data, base = defect_images(), small_base(prediction="v_prediction")
    table = measured(base, data)

    assert table.noise.between(0, 255).all()
    assert (table.base > 0.5 * table.noise).all()
    pd.testing.assert_frame_equal(table, measured(base, data))
    assert not table.noise.equals(measured(base, data, seed=1).noise)


def test_the_report_reads_what_was_measured(tmp_path: Path) -> None:
    """The page would be empty, or tell another category's figures."""
    folder = tmp_path / "train" / "bolt"
    folder.mkdir(parents=True)
    pd.DataFrame([(50, 3, 5.0, 4.0, 4.6)], columns=list(COLUMNS)).to_csv(folder / DENOISING, index=False)

    assert denoising(tmp_path, "bolt") == [Denoising(50, 5.0, 4.0, 4.6)]
    assert denoising(tmp_path, "nut") == []


@pytest.mark.parametrize(
    ("base", "told"),
    [(4.0, r"better than non-local means by 10% or more"), (4.7, r"does not .* at 1 of 2 .*\(-2% at 50\)"), (4.4, r"\(\+4% at 50\)")],
)
def test_the_sentence_says_where_the_base_falls_short(base: float, told: str) -> None:
    """A base that loses to a filter would be presented as a success."""
    assert pd.Series([denoising_verdict([Denoising(50, 5.0, base, 4.6), Denoising(100, 8.0, 4.0, 6.0)])]).str.contains(told).all()
