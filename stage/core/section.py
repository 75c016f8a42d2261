"""What the sections of `params.yaml` are built from: a frozen, complete model, and the types of its values."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]
GroupedWidths = Annotated[tuple[Annotated[int, Field(gt=0, multiple_of=16)], ...], Field(min_length=1)]  # 16 groups in every norm
Exponent = Annotated[int, Field(ge=0, le=10)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _template(text: str) -> str:
    """A prompt that can be filled in, and is not empty."""
    try:
        filled = text.format(category="c", defect="d")
    except (KeyError, IndexError, ValueError):
        filled = ""
    if not filled.strip():
        raise ValueError("a prompt is text with {category} and {defect} as its only fields, and not empty")
    return text


Template = Annotated[str, AfterValidator(_template)]
NAME = r"^[\w][\w .-]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"these are [low, high], found {[*values]}")
    return values


Rising = AfterValidator(_rising)  # of a pair of numbers


class Section(BaseModel):
    """A part of params.yaml: frozen, complete, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")
