"""The section of `params.yaml` on the segmenter and its training."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stage.core.section import LARGEST, Iterations, OneLine, Positive, Rate, Section, Share

Side = Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32)]  # px; the networks' coarsest features have a stride of 32


Model = Literal["efficientnet_lite0", "segformer", "bisenetv2", "stdc1", "stdc2"]
DIGEST = "#sha256="  # between the place of a checkpoint and its digest, as in pip's links


def place_and_digest(weights: str) -> tuple[str, str]:
    """The path or URL of a checkpoint, and the SHA-256 that its file must have; empty if none is given."""
    place, _, digest = weights.partition(DIGEST)
    return place, digest.lower()


def _checkpoint(weights: str) -> str:
    """A place that ends in a whole digest or in none: a mistyped one would leave the file unchecked."""
    place, digest = place_and_digest(weights)
    is_whole = re.fullmatch("[0-9a-f]{64}", digest) if DIGEST in weights else not ("://" in place and "#" in place)
    if not is_whole:
        raise ValueError(
            f"expected {DIGEST} and the file's 64 hexadecimal digits at the end, or no digest, found #{weights.partition('#')[2]}"
        )
    return weights


class Segment(Section):
    """The downstream segmenter, its arms and its batches; sizes in px of a prepared image."""

    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    weights: dict[Model, Annotated[str, Field(min_length=1, max_length=4_096), OneLine, AfterValidator(_checkpoint)]]
    arms: tuple[Literal["real_augmented", "synthetic_only", "perfect"], ...]
    mixture: dict[str, Annotated[float, Field(gt=0, le=1_000)]]
    few: tuple[Annotated[int, Field(ge=1, le=1_000)], ...]
    seeds: Annotated[int, Field(ge=1, le=100)]
    folds: Annotated[int, Field(ge=0, le=20)]
    crop: Side
    aimed: Share
    window: Side
    iterations: Iterations
    batch: Annotated[int, Field(ge=2, le=10_000)]
    normal: Annotated[int, Field(ge=0, le=10_000)]
    synthetic: Positive | Literal["merged"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Rate
    encoder_rate: Share

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if not self.normal < self.batch:
            raise ValueError(f"segment.normal is under segment.batch, found {self.normal} and {self.batch}")
        if unused := set(self.weights) - set(self.models):
            raise ValueError(f"segment.weights are for segment.models, found also {', '.join(sorted(unused))}")
        if self.folds == 1:
            raise ValueError("segment.folds is 0, or 2 and more: a segmenter that sees no fold is trained on nothing")
        for name, values in (("models", self.models), ("arms", self.arms), ("few", self.few)):
            if len(set(values)) < len(values):
                raise ValueError(f"segment.{name} differ from each other, found {', '.join(map(str, values))}")
        return self
