"""`params.yaml` as typed, frozen values: one class per section, no defaults, nothing unknown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stage.core.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]
GroupedWidths = Annotated[tuple[Annotated[int, Field(gt=0, multiple_of=16)], ...], Field(min_length=1)]  # 16 groups in every norm


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
Name = Annotated[str, Field(pattern=r"^[\w][\w .-]*$")]


TRAINED = frozenset({"stage"})  # methods that need a base, and a training on it


def needs_base(methods: Sequence[str]) -> bool:
    """Whether a base must be had and trained for any of these methods."""
    return not TRAINED.isdisjoint(methods)


class Section(BaseModel):
    """A part of params.yaml: frozen, complete, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    layout: Literal["demo", "mvtec", "btad", "folder"]
    licence: str
    image_size: Positive
    mask_threshold: Annotated[int, Field(ge=1, le=255)]
    max_megapixels: Rate
    folder: FolderRule
    foreground: Foreground


class Prompts(Section):
    """Templates with {category} and {defect}."""

    normal: Template
    defect: Template
    isolated: Template


class BaseModelSource(Section):
    """Which latent diffusion model everything stands on."""

    source: Annotated[str, Field(min_length=1)]
    image_size: Positive
    timestep_count: Positive
    prompts: Prompts


class Pretrain(Section):
    """The small base from scratch."""

    iterations: Positive
    batch: Positive
    learning_rate: Rate
    patch: Positive
    widths: GroupedWidths
    text_width: Annotated[int, Field(gt=0, multiple_of=4)]
    defect_share: Share
    balance_limit: Annotated[float, Field(ge=1)]
    weight_average: Share
    augment: bool


class Crop(Section):
    """Which defects are made on a window around them, and how wide it is; see `datasets.windows`. Lengths in px of a prepared image."""

    below: Annotated[int, Field(ge=0)]
    defect_share: Annotated[float, Field(gt=0, le=1)]
    smallest: Positive


class Method(Section):
    """What training and sampling must agree on."""

    adapters: bool
    alignment: Literal["scheduled", "binary"]
    alignment_threshold: Annotated[int, Field(ge=0)]
    mask_reduction: Literal["max", "released"]
    token_count: Positive
    crop: Crop


Precision = Literal["auto", "float32", "bfloat16", "float16"]


class Train(Section):
    """Adapters and tokens of a category."""

    iterations: Positive
    batch: Positive
    learning_rate: Rate
    adapter_widths: Widths
    residual: bool
    balance_limit: Annotated[float, Field(ge=1)]
    augment: bool
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


class Perlin(Section):
    """Masks of thresholded Perlin noise; see `perlin`."""

    exponents: tuple[Annotated[int, Field(ge=0, le=10)], Annotated[int, Field(ge=0, le=10)]]
    threshold: Annotated[float, Field(gt=-1, lt=1)]
    max_components: Positive

    @model_validator(mode="after")
    def _exponents_rise(self) -> Self:
        if self.exponents[0] > self.exponents[1]:
            raise ValueError(f"synthesize.perlin.exponents are [low, high], found {[*self.exponents]}")
        return self


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
    scale: tuple[Rate, Rate]
    shift: Share
    where: Literal["own", "type", "object"]
    likest: Positive
    blends: Annotated[tuple[Literal["hard", "outward", "poisson"], ...], Field(min_length=1)]
    reach: Positive
    ring: Positive

    @model_validator(mode="after")
    def _scales_rise(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"paste.scale is [low, high], found {[*self.scale]}")
        return self


class Segment(Section):
    """The downstream segmenter and its batches."""

    model: Literal["segformer"]
    width: Positive
    depths: tuple[Positive, Positive, Positive, Positive]
    image_size: Positive
    iterations: Positive
    batch: Positive
    learning_rate: Rate
    normal_share: Share
    real_share: Share

    @model_validator(mode="after")
    def _both_arms_differ(self) -> Self:
        defective = self.batch - round(self.batch * self.normal_share)
        real = round(defective * self.real_share)
        if not 0 < real < defective:
            raise ValueError(
                f"a batch of {self.batch} must hold real and synthetic defects, these shares give {real} and {defective - real}"
            )
        return self


class Evaluate(Section):
    """The report."""

    gallery: Positive


class Execution(Section):
    """Where and how work runs; must not change results."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Positive
    save_every_s: Rate
    engine: Literal["local", "ray", "dask"]
    workers: Annotated[int, Field(ge=0)]
    max_failures: Positive
    lease_s: Rate


class Params(Section):
    """The whole file."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    categories: Annotated[tuple[Name, ...], Field(min_length=1)]
    methods: Annotated[tuple[Literal["stage", "paste"], ...], Field(min_length=1)]
    prepare: Prepare
    base: BaseModelSource
    pretrain: Pretrain
    method: Method
    train: Train
    synthesize: Synthesize
    paste: Paste
    segment: Segment
    evaluate: Evaluate
    execution: Execution

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for name, values in (("categories", self.categories), ("methods", self.methods)):
            if len({*values}) < len(values):
                raise ValueError(f"{name} differ, found {', '.join(values)}")
        return self

    @model_validator(mode="after")
    def _timesteps_fit(self) -> Self:
        last = self.base.timestep_count
        for low, high in self.synthesize.graded_intervals:
            if not 0 <= low <= high <= last:
                raise ValueError(f"synthesize.graded_intervals are [low, high] within 0 and {last}, found [{low}, {high}]")
        if not self.method.alignment_threshold < last:
            raise ValueError(f"method.alignment_threshold is under base.timestep_count, found {self.method.alignment_threshold} and {last}")
        if not self.base.image_size <= self.prepare.image_size:
            raise ValueError(f"base.image_size is at most prepare.image_size, found {self.base.image_size} and {self.prepare.image_size}")
        walk = self.synthesize
        if walk.known_region == "fresh_resample" and not (walk.jump_length < walk.steps and walk.resamplings > 1):
            raise ValueError(
                "fresh_resample goes back: synthesize.jump_length is under synthesize.steps and synthesize.resamplings over 1, "
                f"found {walk.jump_length}, {walk.steps} and {walk.resamplings}"
            )
        if not self.synthesize.steps <= last:
            raise ValueError(f"synthesize.steps is at most base.timestep_count, found {self.synthesize.steps} and {last}")
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """The values of a parameter file; a ConfigError names every unknown, missing or wrong key at once."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Params.model_validate(values)
    except FileNotFoundError:
        raise ConfigError(f"Expected a parameter file at {path.absolute()}, found none. Run from the project's root.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected YAML in {path}, found a syntax error: {error}. Correct that line.") from None
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = [f"Expected the keys and types of stage/core/params.py in {path}, found {error.error_count()} problem(s):"]
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        lines.append(f"  {place}: {problem['msg']} (found {str(problem['input'])[:80]!r})")
    return "\n".join([*lines, "Correct these lines; params/*.yaml are complete examples."])
