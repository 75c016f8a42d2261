"""The sections of `params.yaml` on the samples: how many, their masks, the sampler, and what each method has of its own."""

from typing import Annotated, Literal

from pydantic import Field

from stage.core.section import (
    Exponent,
    Factor,
    Listed,
    OneLine,
    Positive,
    Precision,
    Rising,
    SampleCount,
    Section,
    Share,
    Size,
    Text,
    Timesteps,
)

Contrast = Annotated[float, Field(ge=0, le=255)]  # a mean difference to the photograph inside the mask, of 255
Blends = Annotated[tuple[Literal["hard", "outward", "poisson"], ...], Field(min_length=1)]  # see `blending.blended`
ScarPx = Annotated[int, Field(gt=0, le=128)]  # at 256 px; turned, one of these still fits


class Perlin(Section):
    """Masks of thresholded Perlin noise; see `perlin`."""

    exponents: Annotated[tuple[Exponent, Exponent], Rising]
    threshold: Annotated[float, Field(gt=-1, lt=1)]
    max_components: Positive


class VerdictRule(Section):
    """How samples are told from nothing; see `synthesis.calibration`."""

    normal_pass: Annotated[float, Field(gt=0, le=1)]
    pastes: Annotated[int, Field(ge=4, le=10_000)]  # four folds need one each

    @property
    def is_on(self) -> bool:
        """Whether anything is rejected for its looks."""
        return self.normal_pass < 1


class Synthesize(Section):
    """How many samples, and how the sampler walks."""

    count: SampleCount
    attempts: Annotated[int, Field(gt=0, le=100)]  # a sample that fails this often always fails
    batch: Positive
    shard_rows: SampleCount
    mask_source: Literal["real", "augmented", "perlin", "crack", "scratch", "pit", "warped", "resampled"]
    perlin: Perlin
    placement: Literal["as_is", "on_object", "on_part"]
    background: Literal["nearest", "random"]
    neighbours: Positive
    missed_share: Share
    start: Literal["noise", "defect"]
    start_at: Timesteps
    steps: Timesteps
    spacing: Literal["uniform", "coarse_to_fine"]
    graded_intervals: Annotated[tuple[Annotated[tuple[int, int], Listed], ...], Field(max_length=100)]
    known_region: Literal["posterior", "fresh", "fresh_resample", "redrawn"]
    composition: Literal["algorithm_1", "equation_7", "released"]
    mask_noise: Literal["per_channel", "shared"]
    last_step: Literal["exact", "noisy"]
    jump_length: Timesteps
    resamplings: Annotated[int, Field(gt=0, le=1_000)]  # each walks all steps again
    clamp: bool
    verdict: VerdictRule
    precision: Precision
    compiled: bool

    @property
    def redraws_surroundings(self) -> bool:
        """Whether STAGE also changes the photograph around a defect, in the window that its network is shown."""
        return self.start == "defect" and self.known_region == "redrawn"

    def first_timestep(self, timestep_count: int) -> int:
        """The timestep, counted from 1 as in the paper, that the sampler begins at."""
        return self.start_at if self.start == "defect" else timestep_count


class Paste(Section):
    """Real defects put on other photographs; see `synthesis.methods.paste`."""

    mirror: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[tuple[Factor, Factor], Rising]
    shift: Share
    where: Literal["own", "type", "object"]
    blends: Blends
    reach: Size
    ring: Size


class CutPaste(Section):
    """Parts of a photograph pasted elsewhere in it; see `synthesis.methods.cutpaste`."""

    variant: Literal["union", "patch", "scar", "masks"]
    area: Annotated[tuple[Share, Share], Rising]
    aspect: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=1, le=100)]], Rising]
    scar_width: Annotated[tuple[ScarPx, ScarPx], Rising]
    scar_length: Annotated[tuple[ScarPx, ScarPx], Rising]
    rotation: Annotated[float, Field(ge=0, le=180)]
    jitter: Annotated[float, Field(ge=0, le=0.5)]
    overlap: Share
    on_object: Share
    visible: Contrast


class Quilt(Section):
    """Textures of real defects made again in other shapes; see `synthesis.methods.quilt`."""

    patch: Annotated[int, Field(ge=4, le=128)]
    candidates: Positive
    tolerance: Annotated[float, Field(ge=0, le=10)]
    rim: Annotated[float, Field(ge=0, le=255)]
    blends: Blends
    reach: Size
    ring: Size
    visible: Contrast


class Textures(Section):
    """Where DRAEM and GLASS take textures from; see `synthesis.textures`."""

    source: Annotated[str, Field(min_length=1, max_length=4_096), OneLine]
    licence: Text


class Glass(Section):
    """Textures under combined Perlin masks; see `synthesis.methods.glass`."""

    preset: Literal["paper", "quality"]
    opacity: Annotated[tuple[Share, Share], Rising]
    opacity_mean: Share
    opacity_deviation: Share
    augmenters: Annotated[int, Field(ge=0, le=9)]
    smallest: Annotated[int, Field(gt=0, le=1_000_000)]
    visible: Contrast


class Draem(Section):
    """Textures under Perlin masks; see `synthesis.methods.draem`."""

    preset: Literal["paper", "quality"]
    opacity: Annotated[tuple[Share, Share], Rising]
    augmenters: Annotated[int, Field(ge=0, le=10)]
    visible: Contrast
