"""The sections of `params.yaml` on the networks of STAGE: the base, its pretraining, the method, and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stage.core.section import (
    GroupedWidths,
    Iterations,
    LengthPx,
    Limit,
    OneLine,
    Positive,
    Precision,
    Rate,
    Section,
    Share,
    Size,
    Template,
    Timesteps,
    Widths,
)


class Prompts(Section):
    """Templates with {category} and {defect}."""

    normal: Template
    defect: Template
    isolated: Template


class BaseModelSource(Section):
    """Which latent diffusion model is the base."""

    source: Annotated[str, Field(min_length=1, max_length=4_096), OneLine]
    image_size: Size
    timestep_count: Timesteps
    prompts: Prompts


class Pretrain(Section):
    """The small base from scratch. `patch`: px; 64 give a latent of 12,288 channels."""

    start: Annotated[str, Field(min_length=1, max_length=4_096), OneLine]
    iterations: Iterations
    batch: Positive
    learning_rate: Rate
    patch: Annotated[int, Field(gt=0, le=64)]
    widths: GroupedWidths
    text_width: Annotated[int, Field(gt=0, le=8_192, multiple_of=4)]  # four heads
    defect_share: Share
    low_noise: Share
    low_noise_below: Timesteps
    balance_limit: Limit
    weight_average: Share
    preconditioned: bool
    augment: bool


class Crop(Section):
    """Which defects are made on a window around them, and how wide it is; see `datasets.windows`. Lengths in px of a prepared image."""

    below: LengthPx
    defect_share: Annotated[float, Field(gt=0, le=1)]
    smallest: Size


class StageMethod(Section):
    """What training and sampling must agree on."""

    adapters: bool
    alignment: Literal["scheduled", "binary"]
    alignment_threshold: Annotated[int, Field(ge=0, le=10_000)]  # and under base.timestep_count
    mask_reduction: Literal["max", "released"]
    token_count: Positive
    crop: Crop


class Train(Section):
    """Adapters and tokens of a category."""

    iterations: Iterations
    batch: Positive
    learning_rate: Rate
    adapter_widths: Widths
    residual: bool
    balance_limit: Limit
    augment: bool
    timesteps_below: Timesteps
    hidden_share: Share
    train_base: bool
    accumulate: Positive
    precision: Precision
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"train.batch is a multiple of train.accumulate, found {self.batch} and {self.accumulate}")
        return self
