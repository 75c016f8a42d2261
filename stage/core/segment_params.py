"""The section of `params.yaml` on the segmenter and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stage.core.section import Positive, Rate, Section, Share


class Segment(Section):
    """The downstream segmenter, its crops and its batches; sizes in px of a prepared image."""

    model: Literal["efficientnet_lite0", "segformer", "bisenetv2", "stdc1", "stdc2"]
    weights: str
    crop: Annotated[int, Field(ge=32, multiple_of=32)]
    aimed: Share
    window: Annotated[int, Field(ge=32, multiple_of=32)]
    iterations: Positive
    batch: Annotated[int, Field(ge=2)]
    normal: Annotated[int, Field(ge=0)]
    synthetic: Positive | Literal["merged"]
    warmup: Share
    learning_rate: Rate
    encoder_rate: Rate

    @model_validator(mode="after")
    def _defects_have_room(self) -> Self:
        if not self.normal < self.batch:
            raise ValueError(f"segment.normal is under segment.batch, found {self.normal} and {self.batch}")
        return self
