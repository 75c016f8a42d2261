"""The sections of `params.yaml` on the samples: how many, their masks, the sampler, and what each method has of its own."""

from typing import Annotated, Literal

from pydantic import Field

from stage.core.section import Exponent, Positive, Precision, Rate, Rising, Section, Share


class Perlin(Section):
    """Masks of thresholded Perlin noise; see `perlin`."""

    exponents: Annotated[tuple[Exponent, Exponent], Rising]
    threshold: Annotated[float, Field(gt=-1, lt=1)]
    max_components: Positive


class Synthesize(Section):
    """How many samples, and how the sampler walks."""

    count: Positive
    attempts: Positive
    batch: Positive
    shard_rows: Positive
    mask_source: Literal["real", "augmented", "perlin"]
    perlin: Perlin
    placement: Literal["as_is", "on_object"]
    steps: Positive
    spacing: Literal["uniform", "coarse_to_fine"]
    graded_intervals: tuple[tuple[int, int], ...]
    known_region: Literal["posterior", "fresh", "fresh_resample"]
    composition: Literal["algorithm_1", "equation_7", "released"]
    mask_noise: Literal["per_channel", "shared"]
    last_step: Literal["exact", "noisy"]
    jump_length: Positive
    resamplings: Positive
    clamp: bool
    feather: Annotated[int, Field(ge=0)]
    contrast_threshold: Annotated[float, Field(ge=0, le=255)]
    precision: Precision
    compiled: bool


class Paste(Section):
    """Real defects put on other photographs; see `synthesis.methods.paste`."""

    mirror: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[tuple[Rate, Rate], Rising]
    shift: Share
    where: Literal["own", "type", "object"]
    likest: Positive
    blends: Annotated[tuple[Literal["hard", "outward", "poisson"], ...], Field(min_length=1)]
    reach: Positive
    ring: Positive
