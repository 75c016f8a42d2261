"""A batch of the demo from photographs to samples: by the renderer, and by Algorithm 1 as it is printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.algorithm_1 import Branch, algorithm_1
from benchmarks.networks import demo_generator, renderer_of
from stage.core.params import Params
from stage.datasets.blending import paste_back
from stage.datasets.catalog import prepare
from stage.datasets.demo.dataset import write_demo
from stage.datasets.examples import CATALOG
from stage.datasets.table import read_catalog
from stage.model.base import pixels_to_tensor, scheduler_config, tensor_to_pixels
from stage.model.masks import latent_mask
from stage.synthesis.method import METHODS
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.placement import sample_mask
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.recipe import recipe_of
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source, read_source


class Order(NamedTuple):
    """A batch of plan rows, what they name, and an untrained renderer for them."""

    rows: list[PlanRow]
    source: Source
    renderer: StageRenderer


def demo_order(params: Params, folder: Path) -> Order:
    """The first batch of the demo's first category; `folder` is filled with it."""
    category = params.categories[0]
    write_demo(folder / "raw", params.seed, (category,))
    prepare(params.prepare, (category,), folder / "raw", folder / "catalogs")
    catalog = folder / "catalogs" / category
    source = read_source(catalog)
    plan = first_rows(params, category, catalog, source)
    generator = demo_generator(params, tuple(sorted({row.defect for row in plan})))
    return Order(plan[: params.synthesize.batch], source, renderer_of(generator, params, "cpu"))


def first_rows(params: Params, category: str, catalog: Path, source: Source) -> list[PlanRow]:
    """The rows of STAGE's first round, whole batches of each defect type."""
    table = read_catalog(catalog / CATALOG)
    row = METHODS["stage"].planner(recipe_of("stage", category, params, catalog=catalog, base=None, checkpoint=None), table, source)
    return [row(one) for batch in first_round("stage", category, defects_of(table), params.synthesize) for one in batch]


@torch.inference_mode()
def plainly(order: Order, params: Params) -> list[NDArray[np.uint8]]:
    """The same samples by Algorithm 1 to the letter: float32, every timestep, no clamp; images (H, W, 3)."""
    generator, conditions = order.renderer.generator, order.renderer.conditions
    number = generator.types.index(order.rows[0].defect)
    masks = [sample_mask(row, order.source, params.synthesize.perlin) for row in order.rows]
    backgrounds = np.stack([order.source.backgrounds[row.background_sha256].image for row in order.rows])
    x_back = generator.base.encode(pixels_to_tensor(backgrounds))
    random = torch.Generator().manual_seed(0)

    def network(x_t: Tensor, t: int, branch: Branch, mask: Tensor) -> Tensor:
        # The paper counts timesteps from 1, a network from 0.
        return generator.predict_noise(x_t, t - 1, branch, mask, conditions[branch][number].expand(len(x_t), -1, -1))

    x_0 = algorithm_1(
        network,
        x_back,
        torch.stack([latent_mask(mask, generator.base.factor, params.method.mask_reduction) for mask in masks]),
        lambda _kind, _t: torch.randn(x_back.shape, generator=random),
        betas=betas(params.base.timestep_count),
        intervals=params.synthesize.graded_intervals,
        t_s=params.method.alignment_threshold,
    )
    pasted = zip(tensor_to_pixels(generator.base.decode(x_0)), backgrounds, masks, strict=True)
    return [paste_back(new, old, mask) for new, old, mask in pasted]


def betas(timestep_count: int) -> Sequence[float]:
    """Of diffusers' schedule, that of LDM and of Stable Diffusion 1.x."""
    return DDPMScheduler(**scheduler_config(timestep_count)).betas.tolist()
