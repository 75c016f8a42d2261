"""`params.yaml` as typed, frozen values: one class per section, no defaults, nothing unknown."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from stage.core.data_params import Prepare
from stage.core.errors import ConfigError
from stage.core.model_params import BaseModelSource, Pretrain, StageMethod, Train
from stage.core.section import MOST_PROCESSES, Name, Processes, Seconds, Section, one_name
from stage.core.segment_params import Segment
from stage.core.synthesis_params import CutPaste, Draem, Glass, Paste, Quilt, Synthesize, Textures
from stage.core.wording import counted
from stage.core.yaml_files import read_yaml

AnySection = TypeVar("AnySection", bound=Section)


class Evaluate(Section):
    """The report."""

    gallery: Annotated[int, Field(gt=0, le=1_000)]  # pictures on a page


class Execution(Section):
    """Where and how work runs. No key of work depends on it: only device and threads change results, by rounding."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Processes
    save_every_s: Seconds
    engine: Literal["local", "ray", "dask"]
    workers: Annotated[int, Field(ge=0, le=MOST_PROCESSES)]
    trainings: Annotated[int, Field(ge=0, le=MOST_PROCESSES)]
    max_failures: Annotated[int, Field(gt=0, le=100)]  # a batch that fails this often always fails
    lease_s: Seconds
    stuck_s: Seconds


class Params(Section):
    """The whole file."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    categories: Annotated[tuple[Name, ...], Field(min_length=1)]
    methods: Annotated[tuple[Literal["stage", "paste", "cutpaste", "draem", "glass", "quilt"], ...], Field(min_length=1)]
    prepare: Prepare
    base: BaseModelSource
    pretrain: Pretrain
    method: StageMethod
    train: Train
    synthesize: Synthesize
    paste: Paste
    cutpaste: CutPaste
    textures: Textures
    draem: Draem
    glass: Glass
    quilt: Quilt
    segment: Segment
    evaluate: Evaluate
    execution: Execution

    @field_validator("methods", mode="before")
    @classmethod
    def _no_word_for_methods(cls, value: Any) -> Any:
        """`auto` cannot stand in the file: the graph has a branch for each method, and DVC reads the list itself."""
        if value in ("auto", ["auto"], ("auto",)):
            raise ValueError(
                "methods are a list of names, since the graph has a branch for each. Write [paste] here, and run `stage use-methods auto`, which writes all candidates"
            )
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        """Names become folders, and some disks ignore case or how accents are composed."""
        for name, values in (("categories", self.categories), ("methods", self.methods)):
            if len({one_name(value) for value in values}) < len(values):
                raise ValueError(f"{name} differ, found {', '.join(values)}: two of them are one file name on disks that ignore case")
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        if "perfect" in self.segment.arms and self.prepare.layout != "demo":
            raise ValueError("segment.arms has `perfect`, whose samples are drawn, for the demo alone: take it out for photographs")
        return self

    @model_validator(mode="after")
    def _mixture_fits(self) -> Self:
        mixture = self.segment.mixture
        if mixture and (len(mixture) < 2 or not set(mixture) <= {*self.methods}):
            raise ValueError(f"segment.mixture has shares of two or more of the methods, found {', '.join(mixture)}; {{}} is no mixture")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if not self.base.image_size <= self.prepare.image_size:
            raise ValueError(f"base.image_size is at most prepare.image_size, found {self.base.image_size} and {self.prepare.image_size}")
        lengths = {f"{name}.{key}": getattr(getattr(self, name), key) for name in ("paste", "quilt") for key in ("reach", "ring")}
        for name, length in lengths.items():
            if not length < self.prepare.image_size / 2:
                raise ValueError(f"{name} is under half of prepare.image_size, found {length} and {self.prepare.image_size}")
        multiple = self.pretrain.patch * 2 ** (len(self.pretrain.widths) - 1)
        if self.base.source == "scratch" and self.base.image_size % multiple:
            raise ValueError(
                f"base.image_size is a multiple of {multiple} px, which is pretrain.patch times 2 for each of pretrain.widths after the first, "
                f"found {self.base.image_size}"
            )
        return self

    @model_validator(mode="after")
    def _timesteps_fit(self) -> Self:
        last = self.base.timestep_count
        for low, high in self.synthesize.graded_intervals:
            if not 0 <= low <= high <= last:
                raise ValueError(f"synthesize.graded_intervals are [low, high] within 0 and {last}, found [{low}, {high}]")
        if not self.method.alignment_threshold < last:
            raise ValueError(f"method.alignment_threshold is under base.timestep_count, found {self.method.alignment_threshold} and {last}")
        if not self.pretrain.low_noise_below <= last:
            raise ValueError(f"pretrain.low_noise_below is at most base.timestep_count, found {self.pretrain.low_noise_below} and {last}")
        walk = self.synthesize
        if walk.known_region == "fresh_resample" and not (walk.jump_length < walk.steps and walk.resamplings > 1):
            raise ValueError(
                "fresh_resample goes back: synthesize.jump_length is under synthesize.steps and synthesize.resamplings over 1, "
                f"found {walk.jump_length}, {walk.steps} and {walk.resamplings}"
            )
        if not walk.start_at <= last:
            raise ValueError(f"synthesize.start_at is at most base.timestep_count, found {walk.start_at} and {last}")
        if not walk.steps <= (first := walk.first_timestep(last)):
            limit = "synthesize.start_at" if walk.start == "defect" else "base.timestep_count"
            raise ValueError(f"synthesize.steps is at most {limit}, found {walk.steps} and {first}")
        return self

    @model_validator(mode="after")
    def _training_sees_what_sampling_asks(self) -> Self:
        last = self.base.timestep_count
        first = self.synthesize.first_timestep(last)
        if not first <= self.train.timesteps_below <= last:
            raise ValueError(
                "train.timesteps_below is at most base.timestep_count, and at least the timestep that the sampler begins at, which is "
                f"synthesize.start_at with start: defect; found {self.train.timesteps_below}, {last} and {first}"
            )
        if self.train.hidden_share and self.train.timesteps_below <= self.method.alignment_threshold:
            raise ValueError(
                "train.hidden_share is 0 where train.timesteps_below is at most method.alignment_threshold, since it hides defects above that, "
                f"found {self.train.hidden_share}, {self.train.timesteps_below} and {self.method.alignment_threshold}"
            )
        return self

    @model_validator(mode="after")
    def _photograph_is_kept(self) -> Self:
        if self.synthesize.known_region == "redrawn" and self.synthesize.start == "noise":
            raise ValueError("synthesize.known_region is `redrawn` with start: defect alone; from noise, nothing would keep the photograph")
        return self

    @model_validator(mode="after")
    def _missed_are_known(self) -> Self:
        if self.synthesize.missed_share and not self.segment.folds:
            raise ValueError(
                "synthesize.missed_share is for defects that segmenters miss on folds, found segment.folds: 0. Set segment.folds to 2 or more, "
                "or synthesize.missed_share to 0"
            )
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """The values of a parameter file; a ConfigError names every unknown, missing or wrong key at once."""
    return read_section(path, Params, what="a parameter file", example="params/*.yaml are complete examples")


def read_section(path: Path, kind: type[AnySection], *, what: str, example: str) -> AnySection:
    """The values of a YAML file whose keys are the fields of `kind`. Raises ConfigError, which says `what` was expected there."""
    values = read_yaml(path, what)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(path, error, kind, example)) from None


Place = tuple[int | str, ...]
brief = Repr()  # of a wrong value, which may be a whole section
brief.maxlevel, brief.maxstring, brief.maxother = 2, 80, 80


def _explain(path: Path, error: ValidationError, kind: type[Section], example: str) -> str:
    places = [problem["loc"] for problem in error.errors()]
    problems = [problem for problem in error.errors() if not (problem["type"] == "too_short" and _holds_any(problem["loc"], places))]
    keys = "stage/core/*params.py" if kind is Params else kind.__module__.replace(".", "/") + ".py"
    lines = [f"Expected the keys and types of {keys} in {path}, found {counted(len(problems), 'problem')}:"]
    for problem in problems:
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        found = (
            "" if problem["type"] == "value_error" else f" (found {brief.repr(_as_written(problem['input']))})"
        )  # these messages already say what was found
        quotes = ", so put it in quotes" * (problem["type"] == "string_type" and isinstance(problem["input"], (int, float, date)))
        lines.append(f"  {place}: {problem['msg'].removeprefix('Value error, ')}{quotes}{found}")
    return "\n".join([*lines, f"Correct these lines; {example}."])


def _as_written(value: Any) -> Any:
    """A value as YAML has it, which has no tuples."""
    return [*value] if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType]


def _holds_any(place: Place, places: Sequence[Place]) -> bool:
    """Whether another problem lies inside `place`: a list of one wrong name is not also too short."""
    return any(len(other) > len(place) and other[: len(place)] == place for other in places)
