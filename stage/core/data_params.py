"""The section of `params.yaml` on the photographs: where they lie, and how they are read."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, FiniteFloat

from stage.core.section import Positive, Section


def _differing(levels: tuple[float, float]) -> tuple[float, float]:
    if levels[0] == levels[1]:
        raise ValueError(f"these are the levels that are black and white, which differ, found {[*levels]}")
    return levels


class FolderRule(Section):
    """Where a `folder` data set keeps its files, relative to its root; see docs/data.md."""

    normal: str
    test_normal: str
    image: str
    mask: str
    groups: str
    foreground: str


class Foreground(Section):
    """Which pixels of a normal image are the object; see `datasets.foreground`."""

    strategy: Literal["none", "threshold", "files"]
    channel: Literal["grey", "red", "green", "blue", "saturation"]
    threshold: Literal["otsu", "triangle"] | Annotated[int, Field(ge=0, le=255)]
    object_is: Literal["auto", "bright", "dark"]
    opening: Annotated[int, Field(ge=0)]
    closing: Annotated[int, Field(ge=0)]
    largest: bool
    fill_holes: bool


class Prepare(Section):
    """What is read, and how; ranges as annotated, sizes in px."""

    source: str
    layout: Literal["demo", "mvtec", "loco", "btad", "folder"]
    licence: str
    image_size: Positive
    mask_threshold: Annotated[int, Field(ge=1, le=255)]
    max_megapixels: Annotated[FiniteFloat, Field(gt=0, le=100_000)]
    grey_range: Literal["auto"] | Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_differing)]
    folder: FolderRule
    foreground: Foreground
