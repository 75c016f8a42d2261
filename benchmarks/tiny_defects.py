"""Which share of 1, 2, 4 and 8 px defects can be seen in real samples, by mask reduction, window and ablation.

Run it with `python -m benchmarks.tiny_defects` from the project's root; about ten minutes on two cores.
`--quick` tries every part at a small size, and measures nothing of use.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.end_to_end import first_rows
from benchmarks.networks import default_params, with_values
from benchmarks.tiny_spots import CATEGORY, SIDE, SIZES, defect_of, draw_spots
from stage.core.params import Params
from stage.datasets.catalog import prepare
from stage.datasets.components import components
from stage.datasets.examples import defect_images
from stage.model.base import load_base
from stage.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from stage.model.examples import pretraining_examples
from stage.model.pretraining import pretrain
from stage.model.training import train
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source, read_source

Changes = Mapping[str, Mapping[str, object]]
FAINTEST = 8.0  # of 255; contrast of a defect that can be seen on grey
CROP = {"below": 10, "defect_share": 0.25, "smallest": 16}  # px, share, px
# What differs from all on: every part of the method, max-pooled masks, whole images.
CONFIGURATIONS: Mapping[str, Changes] = {
    "all on": {},
    "released": {"method": {"mask_reduction": "released"}},
    "windows": {"method": {"crop": CROP}},
    "released, windows": {"method": {"mask_reduction": "released", "crop": CROP}},
    "adapters off": {"method": {"adapters": False}},
    "AIF off": {"synthesize": {"known_region": "fresh"}},
    "graded off": {"synthesize": {"graded_intervals": ()}},
    "alignment binary": {"method": {"alignment": "binary"}},
}


class Share(NamedTuple):
    """Of the components of all masks of a defect size: how many there are, lie on the latent grid, and can be seen."""

    components: int
    held: int
    visible: int


@dataclass(frozen=True)
class Workshop:
    """The drawn data set in a folder, and what is trained on it, each once."""

    folder: Path
    params: Params

    @cached_property
    def catalog(self) -> Path:
        """The prepared data set; 9 images of a type are 3 for training."""
        draw_spots(self.folder / "raw", images=9)
        prepare(self.params.prepare, (CATEGORY,), self.folder / "raw", self.folder / "prepare")
        return self.folder / "prepare" / CATEGORY

    @cached_property
    def source(self) -> Source:
        """The pixels of the training part."""
        return read_source(self.catalog)

    @cached_property
    def plan(self) -> list[PlanRow]:
        """The same rows for every configuration."""
        return first_rows(self.params, CATEGORY, self.catalog, self.source)

    def base(self, params: Params) -> Path:
        """A base pretrained through this configuration's windows."""
        folder = self.folder / f"base-{params.method.crop.below}"
        if not folder.exists():
            base, _ = pretrain(
                pretraining_examples([self.catalog], params.base.prompts),
                params.pretrain,
                crop=params.method.crop,
                image_size=SIDE,
                timestep_count=params.base.timestep_count,
                seed=params.seed,
                state=folder.with_suffix(".state"),
                execution=params.execution,
            )
            base.save(folder)
        return folder

    def checkpoint(self, params: Params) -> Checkpoint:
        """Adapters and tokens trained with this configuration's `method`, but max-pooled masks.

        Training refuses antialiased ones where they lose every defect of a type; so the column shows what they do to samples alone.
        """
        params = with_values(params, method={"mask_reduction": "max"})
        base = self.base(params)
        folder = self.folder / f"{base.name}-{params.method.alignment}-{params.method.adapters}"
        if not folder.exists():
            trained = train(load_base(base), defect_images(self.catalog, CATEGORY), params, state=folder.with_suffix(".state"))
            save_checkpoint(trained.generator, trained.bounds, base, folder, with_unet=params.train.train_base)
        return load_checkpoint(base, folder)

    def shares(self, params: Params) -> dict[int, Share]:
        """By size of the defects, from real samples."""
        renderer = StageRenderer(
            self.checkpoint(params),
            params.method,
            params.synthesize,
            params.base.prompts,
            pasting=params.paste,
            image_size=SIDE,
            device="cpu",
        )
        return {size: self.share(renderer, [row for row in self.plan if row.defect == defect_of(size)]) for size in SIZES}

    def share(self, renderer: StageRenderer, rows: list[PlanRow]) -> Share:
        """Of the samples of some rows of one defect type."""
        counts, size = [], renderer.params.batch
        for batch in (rows[start : start + size] for start in range(0, len(rows), size)):
            for row, sample in zip(batch, renderer.render(batch, self.source), strict=True):
                background = self.source.backgrounds[row.background_sha256].image
                verdict = verdict_on(sample, background, row.defect, None)
                difference = np.abs(sample.pair.image.astype(float) - background).mean(axis=-1)
                contrasts = ndimage.mean(difference, components(sample.pair.mask), range(1, verdict.components + 1))
                counts.append((verdict.components, verdict.visible, int((contrasts >= FAINTEST).sum())))
        return Share(*map(sum, zip(*counts, strict=True)))


def main(*options: str) -> None:
    """Draw, train, sample and print the table."""
    params = spot_params(is_quick="--quick" in options)
    table = Table("size, px", *CONFIGURATIONS, title="Share of the masks' components that can be seen in the samples")
    table.caption = f"{params.synthesize.count} samples a size; contrast of at least {FAINTEST:g} of 255; in brackets, what the latent grid holds if not all"
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder), params)
        found = [workshop.shares(with_values(params, **nested(params, changes))) for changes in CONFIGURATIONS.values()]
    for size in SIZES:
        table.add_row(str(size), *(cell(shares[size]) for shares in found))
    Console(width=160).print(table)


def spot_params(*, is_quick: bool) -> Params:
    """params.yaml for the drawn data set, at a size that trains in a minute or two, or, quick, in a second or two."""
    params = default_params()
    whole = params.method.crop.model_copy(update={"below": 0})
    params = with_values(
        params.model_copy(update={"categories": (CATEGORY,)}),
        method={"crop": whole},
        prepare={"layout": "mvtec", "image_size": SIDE},
        pretrain={"iterations": 600, "widths": (32, 48, 48), "learning_rate": 2e-3},
        train={"iterations": 150, "adapter_widths": (48, 48)},
        synthesize={
            "count": 16,
            "start": "noise",
            "known_region": "posterior",
            "steps": 50,
            "mask_source": "augmented",
            "placement": "as_is",
        },
    )
    if not is_quick:
        return params
    return with_values(
        params,
        pretrain={"iterations": 2, "batch": 4, "widths": (16, 16), "text_width": 16},
        train={"iterations": 1, "batch": 2, "adapter_widths": (8,), "augment": False},
        synthesize={"count": 2, "batch": 2, "steps": 3},
    )


def nested(params: Params, changes: Changes) -> Changes:
    """The changes with the values of `crop` made into a section."""
    method = dict(changes.get("method", {}))
    if "crop" in method:
        method["crop"] = params.method.crop.model_copy(update=CROP)
    return {**changes, "method": method}


def cell(share: Share) -> str:
    """A share as a reader wants it."""
    visible, held = share.visible / share.components, share.held / share.components
    return f"{visible:.0%}" if held == 1 else f"{visible:.0%} ({held:.0%})"


if __name__ == "__main__":
    main(*sys.argv[1:])
