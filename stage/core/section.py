"""What the sections of `params.yaml` are built from: a frozen, complete model, and the types of its values with their limits.

A limit lies far above what makes sense. A value beyond it is a slip (micrometres for pixels, a digit too many), which would fill
the memory or the disk after hours.
"""

import re
from string import Formatter
from typing import Annotated, Any, Literal
from unicodedata import category, normalize

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo, field_validator

LARGEST = 16_384  # px; a photograph of that side takes 0.8 GB as pixels, and several are held at once

Positive = Annotated[int, Field(gt=0, le=10_000)]  # batches, tokens: whatever else is counted
LengthPx = Annotated[int, Field(ge=0, le=LARGEST)]
Size = Annotated[int, Field(gt=0, le=LARGEST)]
Iterations = Annotated[int, Field(gt=0, le=10_000_000)]  # months; the curve holds a row for each
SampleCount = Annotated[int, Field(gt=0, le=1_000_000)]  # of a defect type: their ids have six digits, and plans are measured up to here
Timesteps = Annotated[int, Field(gt=0, le=10_000)]  # with more, LDM's betas leave nothing of the image in float32
Channels = Annotated[int, Field(gt=0, le=8_192)]  # one convolution of this width between two such layers has 2.4 GB of weights
Levels = Field(min_length=1, max_length=16)  # a network with more would halve the largest image to nothing
Share = Annotated[float, Field(ge=0, le=1)]
MOST_PROCESSES = 1_024  # and threads: more than a machine has cores
Processes = Annotated[int, Field(gt=0, le=MOST_PROCESSES)]
Rate = Annotated[float, Field(gt=0, le=1)]  # learning rates
Factor = Annotated[float, Field(gt=0, le=10)]  # on a defect's size: a tenfold one covers the image
Limit = Annotated[float, Field(ge=1, le=1e6)]  # of a weight in a loss
Seconds = Annotated[float, Field(gt=0, le=86_400)]  # a day
Widths = Annotated[tuple[Channels, ...], Levels]
GroupedWidths = Annotated[tuple[Annotated[int, Field(gt=0, le=8_192, multiple_of=16)], ...], Levels]  # 16 groups in every norm
Exponent = Annotated[int, Field(ge=0, le=10)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _line(text: str) -> str:
    """Text that can be part of a path, a table and a page: without control characters."""
    if any(category(letter) == "Cc" for letter in text):
        raise ValueError("this is one line of text without control characters")
    return text


OneLine = AfterValidator(_line)
Text = Annotated[str, Field(max_length=4_096), OneLine]  # the longest path of Linux


def _template(text: str) -> str:
    """A prompt that can be filled in, and is not empty."""
    try:
        fields = {(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None}
    except ValueError:
        fields = {("", "", None)}
    if not text.strip() or not fields <= {("category", "", None), ("defect", "", None)}:
        raise ValueError("a prompt is text with {category} and {defect} as its only fields, and not empty")
    return text


def check_name(text: str) -> str:
    """A name that a folder can have, with room for the suffixes of unfinished folders."""
    if len(text.encode()) > 200:
        raise ValueError("a name takes at most 200 bytes of UTF-8, because it names a folder")
    if text[-1:] in (".", " "):
        raise ValueError("a name does not end in a dot or a blank, which Windows removes from a folder's name")
    if DEVICES.fullmatch(text.partition(".")[0].rstrip()):
        raise ValueError("a name is not a device's, such as CON or COM1, which no folder can have on Windows")
    if one_name(text) in SUMMARY_FILES:
        raise ValueError(
            f"a name is not one of {' and '.join(SUMMARY_FILES)}, the files that `prepare` writes beside the categories' folders"
        )
    return text


def one_name(text: str) -> str:
    """The same text for names that some disks take for one, since only case or the composition of accents differs."""
    return normalize("NFC", normalize("NFC", text).casefold())


Template = Annotated[Text, AfterValidator(_template)]
DEVICES = re.compile("con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]", re.IGNORECASE)
SUMMARY_FILES = ("summary.json", "set_aside.csv")
NAME = r"^[\w][\w .-]*$"
Name = Annotated[str, Field(pattern=NAME), AfterValidator(check_name)]


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"these are [low, high], found {[*values]}")
    return values


Rising = AfterValidator(_rising)  # of a pair of numbers
Listed = Strict(False)  # of a tuple in a list or a mapping: it may be given as a list, since YAML has no tuples


class Section(BaseModel):
    """A part of params.yaml: frozen, complete, nothing unknown, every number finite, and no value of another kind, such as text for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """`iterations: true` would be one iteration."""
        given = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(one, bool) for one in given) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("true and false are not values of it")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        """YAML has no tuples."""
        return (*value,) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]
