"""A category drawn, prepared and given an untrained checkpoint in about a second: what the tests of the samples start from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from miniatures import SIZE, small_base
from PIL import Image

from stage.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from stage.datasets.catalog import prepare
from stage.examples import defect_images
from stage.generator import Generator
from stage.latents import CachedLatents
from stage.params import Params, load_params
from stage.synthesis.render import Renderer
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source, read_source

DEFECTS = {"crack": 6, "spot": 3}  # images; a third of each is the generator's
CATEGORY = "part"


class Factory(NamedTuple):
    """The folder that stands for `data`, its checkpoint, and the parameters of both."""

    data: Path
    params: Params
    checkpoint: Checkpoint

    @property
    def catalog(self) -> Path:
        return self.data / "prepare" / CATEGORY / "catalog.parquet"

    def renderer(self, **changes: object) -> Renderer:
        """Of the factory's parameters, some of `synthesize` changed."""
        settings = self.params.synthesize.model_copy(update=changes)
        return Renderer(self.checkpoint, self.params.method, settings, self.params.base.prompts, self.params.base.image_size, "cpu")

    def source(self) -> Source:
        return read_source(self.catalog.parent)


def small_params() -> Params:
    """The repository's values at the smallest scale at which every part still runs."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    changes = {
        "categories": (CATEGORY,),
        "prepare": {"layout": "mvtec", "image_size": SIZE, "licence": "CC0-1.0"},
        "base": {"image_size": SIZE},
        "method": {"token_count": 2},
        "train": {"adapter_widths": (8,)},
        "synthesize": {"count": 6, "batch": 4, "shard_rows": 5, "steps": 4},
    }
    sections = {name: getattr(params, name).model_copy(update=values) for name, values in changes.items() if isinstance(values, dict)}
    return params.model_copy(update={"categories": changes["categories"], **sections})


def draw_part(root: Path) -> None:
    """A data set in MVTec AD's layout: noise on grey, each defect's mask a rectangle of its own."""
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 2)):
        for number in range(count):
            _save(root / CATEGORY / split / "good" / f"{number:03}.png", _photograph(random))
    for defect, count in DEFECTS.items():
        for number in range(count):
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[2 + number : 11, 3 : 9 + len(defect)] = 255
            photograph = _photograph(random)
            photograph[mask > 0] = 255 if defect == "crack" else 0
            _save(root / CATEGORY / "test" / defect / f"{number:03}.png", photograph)
            _save(root / CATEGORY / "ground_truth" / defect / f"{number:03}_mask.png", mask)


def build(root: Path) -> Factory:
    """Draw, prepare, and save and load a base and a checkpoint, below `root`."""
    params = small_params()
    draw_part(root / "raw")
    data, base_folder = root / "data", root / "data" / "pretrain" / "base"
    prepare(params.prepare, params.categories, root / "raw", data / "prepare")
    folder = data / "prepare" / CATEGORY
    images, base = defect_images(folder, CATEGORY), small_base()
    base.save(base_folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(base, CATEGORY, images.types, params.method.token_count, params.train.adapter_widths, residual=True)
    bounds = CachedLatents.encode(base, images, params.method, augment=False, image_size=SIZE).bounds
    save_checkpoint(generator, bounds, base_folder, data / "train" / CATEGORY, with_unet=False)
    return Factory(data, params, load_checkpoint(base_folder, data / "train" / CATEGORY))


def plan_row(ordinal: int, **changes: object) -> PlanRow:
    """A row of nothing in particular."""
    row = PlanRow(
        sample_id=f"part/crack/{ordinal:06d}",
        ordinal=ordinal,
        attempt=0,
        seed=2**62 + ordinal,
        settings="test",
        method="stage",
        category=CATEGORY,
        defect="crack",
        prompt="part crack",
        background_path="part/train/good/000.png",
        background_sha256="b" * 64,
        mask_path="part/ground_truth/crack/000_mask.png",
        mask_sha256="a" * 64,
        mask_kind="augmented",
        mask_turn=3,
        mask_shift_y=-2,
        mask_shift_x=5,
        mask_seed=0,
        mask_area=12,
        mask_digest="d" * 64,
        foreground="threshold",
        licence="CC0-1.0",
    )
    return row._replace(**changes)


def _photograph(random: np.random.Generator) -> np.ndarray:
    return random.integers(90, 150, (SIZE, SIZE, 3), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
