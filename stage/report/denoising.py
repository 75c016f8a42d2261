"""How well the base denoises a category's real defects, as `train` measured it."""

from pathlib import Path
from typing import NamedTuple

from stage.model.files import DENOISING
from stage.report import artefacts

AHEAD = 0.1  # lead over the classical denoiser, as a share of its error; with less, the sampler draws noise rather than texture


class Denoising(NamedTuple):
    """Root mean square errors inside the masks, of 255: of the noisy image at a timestep, of the base's estimate, and of non-local means."""

    timestep: int
    noise: float
    base: float
    classical: float

    @property
    def lead(self) -> float:
        """The share by which the base's error is below the classical denoiser's; negative if it is above."""
        return 1 - self.base / self.classical


def denoising(data: Path, category: str) -> list[Denoising]:
    """The rows of a category, by timestep; none if nothing was trained."""
    path = data / "train" / category / DENOISING
    if not path.is_file():
        return []
    rows = artefacts.read_csv(path, ["timestep", "noise", "base", "classical"])
    return [Denoising(int(row["timestep"]), *(float(row[name]) for name in ("noise", "base", "classical"))) for row in rows]


def denoising_verdict(rows: list[Denoising]) -> str:
    """Whether the base knows more of these photographs than a classical denoiser does, in a sentence."""
    short = [row for row in rows if row.lead < AHEAD]
    if not short:
        return f"The base denoises real defects better than non-local means by {AHEAD:.0%} or more at every noise level."
    told = ", ".join(f"{row.lead:+.0%} at {row.timestep}" for row in short)
    return (
        f"The base does not denoise real defects better than non-local means by {AHEAD:.0%} at {len(short)} of {len(rows)} noise levels "
        f"({told}); what it draws is rough, whatever the sampler does."
    )
