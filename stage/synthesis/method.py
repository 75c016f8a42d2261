"""The interface of a synthesis method: what it needs, how it plans a row, and how it renders rows.

H, W image size. A method is a module of `synthesis.methods` with two functions, `planner` and `renderer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stage.model.base_pointer import TRAINED
from stage.synthesis.rows import Identity, PlanRow

if TYPE_CHECKING:  # every `dvc repro` asks which methods there are, and needs no array for it
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stage.datasets.pairs import Pair
    from stage.datasets.windows import Window
    from stage.synthesis.recipe import Recipe
    from stage.synthesis.source import Source

CALIBRATE = "stage.synthesis.calibration:calibrate"
Planner = Callable[[Identity], PlanRow]


class Rendered(NamedTuple):
    """A sample, and what the verdict must know about its rendering.

    `shown` (H, W): the defect pixels that the method was able to render; None for all. The method may change the photograph
    within `reach` px outside the mask, and in the window `redrawn`. A mean difference to the photograph inside the mask under
    `least_contrast`, of 255, is no defect.
    """

    pair: Pair
    shown: NDArray[np.bool_] | None = None
    reach: int = 0
    redrawn: Window | None = None
    least_contrast: float = 0.0


class Renderer(Protocol):
    """Renders the samples of one category; loaded once, shared by all batches."""

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of up to `synthesize.batch` rows of one defect type, the same whatever else is rendered before or after."""
        ...


class Method(NamedTuple):
    """A synthesis method by its module, which is imported only when it is used."""

    module: str
    parameters: tuple[str, ...]  # sections of params.yaml that decide its pixels, beside `synthesize`
    begun_by: tuple[str, ...] = ()  # more of them, where `synthesize.start` is `defect`
    nominal: bool = False  # whether it ignores defect types: its samples bear a type's name, and need not resemble its defects

    def planner(self, recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
        """A function from an identity to its plan row: every choice is drawn from the row's own seed."""
        return self._imported().planner(recipe, catalog, source)

    def renderer(self, recipe: Recipe, device: str) -> Renderer:
        """The renderer with its networks loaded, on a device, `cpu` or `cuda`."""
        return self._imported().renderer(recipe, device)

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it needs a checkpoint from `train`."""
        return self.module.rpartition(".")[2] in TRAINED

    @property
    def planning(self) -> tuple[str, ...]:
        """The entry points of the code that plans its rows, as `code_digest` takes them."""
        return f"{self.module}:planner", "stage.synthesis.source:read_source"

    @property
    def rendering(self) -> tuple[str, ...]:
        """The entry points of the code that renders and judges its samples."""
        judging = ("stage.synthesis.batch:write_batch", CALIBRATE)
        return f"{self.module}:renderer", "stage.synthesis.source:read_source", *judging

    def _imported(self) -> Any:
        return import_module(self.module)


METHODS = {
    "stage": Method("stage.synthesis.methods.stage", parameters=("method", "base"), begun_by=("paste",)),
    "paste": Method("stage.synthesis.methods.paste", parameters=("paste",)),
    "cutpaste": Method("stage.synthesis.methods.cutpaste", parameters=("cutpaste",), nominal=True),
    "draem": Method("stage.synthesis.methods.draem", parameters=("draem", "textures"), nominal=True),
    "glass": Method("stage.synthesis.methods.glass", parameters=("glass", "textures"), nominal=True),
    "quilt": Method("stage.synthesis.methods.quilt", parameters=("quilt",)),
}
