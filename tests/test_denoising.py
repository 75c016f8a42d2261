"""How well a base denoises real defects: figures that nothing after it can mend."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from miniatures import SIZE, defect_images, small_base, small_params

from stage.datasets.examples import DefectImages
from stage.model.base import Base, pixels_to_tensor
from stage.model.denoising import COLUMNS, denoising_errors
from stage.report.denoising import Denoising, denoising, denoising_verdict


def measured(base: Base, data: DefectImages, seed: int = 0) -> pd.DataFrame:
    params = small_params()
    return denoising_errors(base, data, params.method.crop, params.base.prompts, image_size=SIZE, seed=seed)


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
    pd.DataFrame([(50, 3, 5.0, 4.0, 4.6)], columns=list(COLUMNS)).to_csv(folder / "denoising.csv", index=False)

    assert denoising(tmp_path, "bolt") == [Denoising(50, 5.0, 4.0, 4.6)]
    assert denoising(tmp_path, "nut") == []


@pytest.mark.parametrize(
    ("base", "told"),
    [(4.0, r"better than non-local means by 10% or more"), (4.7, r"does not .* at 1 of 2 .*\(-2% at 50\)"), (4.4, r"\(\+4% at 50\)")],
)
def test_the_sentence_says_where_the_base_falls_short(base: float, told: str) -> None:
    """A base that loses to a filter would be presented as a success."""
    assert pd.Series([denoising_verdict([Denoising(50, 5.0, base, 4.6), Denoising(100, 8.0, 4.0, 6.0)])]).str.contains(told).all()
