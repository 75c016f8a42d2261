"""What decides the samples of a category and method: folders and parameters."""

from collections.abc import Mapping
from pathlib import Path

from stage.core.device import device
from stage.core.errors import ConfigError
from stage.core.model_params import Prompts, StageMethod
from stage.core.params import Params
from stage.core.section import Section
from stage.core.synthesis_params import CutPaste, Draem, Glass, Paste, Quilt, Synthesize, Textures
from stage.model.base_pointer import follow_pointer, needs_base
from stage.model.files import ADAPTERS
from stage.synthesis.missed import Missed

NO_NETWORKS: Mapping[str, Path | None] = {"base": None, "checkpoint": None}


class Recipe(Section):
    """The inputs of a job. `guidance` is the section `method` of params.yaml; `device` is `cpu` or `cuda`.

    `base` and `checkpoint` are None for a method that needs no training. `missed`: the types that get samples beyond `synthesize.count`.
    """

    method: str
    category: str
    catalog: Path
    base: Path | None
    checkpoint: Path | None
    name: str
    seed: int
    guidance: StageMethod
    synthesize: Synthesize
    paste: Paste
    cutpaste: CutPaste
    textures: Textures
    draem: Draem
    glass: Glass
    quilt: Quilt
    prompts: Prompts
    image_size: int
    timestep_count: int
    device: str
    missed: tuple[Missed, ...] = ()

    def count_of(self, defect: str) -> int:
        """How many samples of a type are published: those with lower ordinals than this."""
        return self.synthesize.count + sum(one.extra for one in self.missed if one.defect == defect)


def is_ready(method: str, checkpoint: Path) -> bool:
    """Whether the category's training is finished, or the method needs none."""
    return not needs_base([method]) or (checkpoint / ADAPTERS).is_file()


def networks_of(method: str, *, pretrained: Path, checkpoint: Path, first: str = "") -> Mapping[str, Path | None]:
    """`base` and `checkpoint` of a recipe, from the outputs of `pretrain` and of the category's `train`.

    Raises ConfigError if the method needs them and they are not there; `first` is what to do before `dvc repro train`.
    """
    if not needs_base([method]):
        return NO_NETWORKS
    if not is_ready(method, checkpoint):
        category = checkpoint.name
        raise ConfigError(f"Expected a checkpoint of {category} in {checkpoint}, found none. {first}Run `dvc repro train@{category}`.")
    return {"base": follow_pointer(pretrained), "checkpoint": checkpoint}


def recipe_of(method: str, category: str, params: Params, *, catalog: Path, base: Path | None, checkpoint: Path | None) -> Recipe:
    """The recipe of a category and method by the parameters, on this machine's device."""
    return Recipe(
        method=method,
        category=category,
        catalog=catalog,
        base=base,
        checkpoint=checkpoint,
        name=params.name,
        seed=params.seed,
        guidance=params.method,
        synthesize=params.synthesize,
        paste=params.paste,
        cutpaste=params.cutpaste,
        textures=params.textures,
        draem=params.draem,
        glass=params.glass,
        quilt=params.quilt,
        prompts=params.base.prompts,
        image_size=params.base.image_size,
        timestep_count=params.base.timestep_count,
        device=device(params.execution.device),
    )
