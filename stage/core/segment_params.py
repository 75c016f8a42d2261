"""The section of `params.yaml` on the segmenter and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stage.core.section import LARGEST, Iterations, Line, Positive, Rate, Section, Share

Side = Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)]  # px; the networks' coarsest features have a stride of 32


class Segment(Section):
    """The downstream segmenter, its arms and its batches; sizes in px of a prepared image."""

    model: Literal["efficientnet_lite0", "segformer", "bisenetv2", "stdc1", "stdc2"]
    weights: Annotated[str, Field(max_length=4_096), Line]
    arms: tuple[Literal["real_augmented", "synthetic_only"], ...]
    crop: Side
    aimed: Share
    window: Side
    iterations: Iterations
    batch: Annotated[int, Field(ge=2, le=10_000)]
    normal: Annotated[int, Field(ge=0, le=10_000)]
    synthetic: Positive | Literal["merged"]
    warmup: Share
    learning_rate: Rate
    encoder_rate: Share

    @model_validator(mode="after")
    def _defects_have_room(self) -> Self:
        if not self.normal < self.batch:
            raise ValueError(f"segment.normal is under segment.batch, found {self.normal} and {self.batch}")
        return self
