"""The section of `params.yaml` on the photographs: where they lie, and how they are read."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from stage.core.section import LengthPx, Section, Size, Text


def _differing(levels: tuple[float, float]) -> tuple[float, float]:
    if levels[0] == levels[1]:
        raise ValueError(f"the levels of black and of white differ, found {[*levels]}")
    return levels


class FolderRule(Section):
    """Where a `folder` data set keeps its files, relative to its root; see docs/data.md."""

    normal: Text
    test_normal: Text
    image: Text
    mask: Text
    groups: Text
    foreground: Text


class Foreground(Section):
    """Which pixels of an image are the object; see `datasets.foreground`."""

    strategy: Literal["none", "threshold", "files"]
    channel: Literal["auto", "grey", "red", "green", "blue", "saturation"]
    threshold: Literal["otsu", "triangle"] | Annotated[int, Field(ge=0, le=255)]
    object_is: Literal["auto", "bright", "dark"]
    opening: LengthPx
    closing: LengthPx
    largest: bool
    fill_holes: bool


class Prepare(Section):
    """What is read, and how; ranges as annotated, sizes in px."""

    source: Text
    layout: Literal["demo", "mvtec", "loco", "btad", "plain", "folder"]
    licence: Text
    image_size: Size
    mask_threshold: Annotated[int, Field(ge=1, le=255)]
    max_megapixels: Annotated[float, Field(gt=0, le=10_000)]  # 100,000 px square: 30 GB as pixels
    grey_range: Literal["auto"] | Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_differing)]
    folder: FolderRule
    foreground: Foreground

    @model_validator(mode="after")
    def _disks_fit(self) -> Self:
        for name in ("opening", "closing"):
            radius = getattr(self.foreground, name)
            if not radius < self.image_size / 2:
                raise ValueError(
                    f"foreground.{name} is a radius in px of the prepared image, under half of image_size, or the disk would cover it all; "
                    f"found {radius} and {self.image_size}"
                )
        return self
