"""The sections of `params.yaml` on the samples: how many, their masks, the sampler, and what each method has of its own."""

from typing import Annotated, Literal

from pydantic import Field

from stage.core.section import Exponent, Factor, Positive, Precision, Rising, SampleCount, Section, Share, Size, Text, Timesteps

Contrast = Annotated[float, Field(ge=0, le=255)]  # a mean difference to the photograph inside the mask, of 255


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
    attempts: Annotated[int, Field(gt=0, le=100)]  # what fails so often fails always
    batch: Positive
    shard_rows: SampleCount
    mask_source: Literal["real", "augmented", "perlin"]
    perlin: Perlin
    placement: Literal["as_is", "on_object"]
    background: Literal["nearest", "random"]
    neighbours: Positive
    steps: Timesteps
    spacing: Literal["uniform", "coarse_to_fine"]
    graded_intervals: Annotated[tuple[tuple[int, int], ...], Field(max_length=100)]
    known_region: Literal["posterior", "fresh", "fresh_resample"]
    composition: Literal["algorithm_1", "equation_7", "released"]
    mask_noise: Literal["per_channel", "shared"]
    last_step: Literal["exact", "noisy"]
    jump_length: Timesteps
    resamplings: Annotated[int, Field(gt=0, le=1_000)]  # each walks all steps again
    clamp: bool
    verdict: VerdictRule
    precision: Precision
    compiled: bool


class Paste(Section):
    """Real defects put on other photographs; see `synthesis.methods.paste`."""

    mirror: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[tuple[Factor, Factor], Rising]
    shift: Share
    where: Literal["own", "type", "object"]
    blends: Annotated[tuple[Literal["hard", "outward", "poisson"], ...], Field(min_length=1)]
    reach: Size
    ring: Size


class Textures(Section):
    """Where DRAEM and GLASS take textures from; see `synthesis.textures`."""

    source: Annotated[Text, Field(min_length=1)]
    licence: Annotated[Text, Field(min_length=1)]


class Draem(Section):
    """Textures under Perlin masks; see `synthesis.methods.draem`."""

    preset: Literal["paper", "quality"]
    opacity: Annotated[tuple[Share, Share], Rising]
    augmenters: Annotated[int, Field(ge=0, le=10)]
    visible: Contrast
