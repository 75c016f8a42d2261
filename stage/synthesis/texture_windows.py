"""Windows of textures, some with a drawn defect, for a base that is trained before there are photographs. Not in the paper.

S side of a window. Pictures are (H, W, 3) uint8 RGB of any size, windows (S, S, 3), masks (S, S) uint8 in {0, 1}, 1 = defect.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from pydantic import Field

from stage.core.arrays import Pixels
from stage.core.errors import DataError
from stage.core.section import Factor, GroupedWidths, Iterations, Positive, Rate, Rising, Section, Share, Size, Timesteps
from stage.datasets.blending import paste_back
from stage.datasets.images import BY_FILE, read_image
from stage.datasets.walking import walk
from stage.datasets.windows import TURNS, turn
from stage.synthesis.procedural import procedural
from stage.synthesis.shapes import LONGEST
from stage.synthesis.strokes import DRAWN
from stage.synthesis.textures import SEEDS

MOST_MEGAPIXELS = 50  # of a picture; all are held at once
CHANGES = (0.3, 1.6)  # factor on the contrast of a texture inside a defect that has no other texture


class TextureBase(Section):
    """A recipe of `stage make-base`; `bases/textures.yaml` says what each value means."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    image_size: Size
    timestep_count: Timesteps
    patch: Annotated[int, Field(gt=0, le=64)]
    widths: GroupedWidths
    text_width: Annotated[int, Field(gt=0, le=8_192, multiple_of=4)]
    fitted: Annotated[int, Field(ge=64, le=100_000)]
    iterations: Iterations
    batch: Positive
    learning_rate: Rate
    weight_average: Share
    low_noise: Share
    low_noise_below: Timesteps
    scales: Annotated[tuple[Annotated[float, Field(ge=1, le=10)], ...], Field(min_length=1)]
    computed: Share
    defective: Share
    defect_area: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Share], Rising]
    other_texture: Share
    isolated: Share
    grey: Share
    brightness: Annotated[float, Field(ge=0, le=255)]
    contrast: Annotated[tuple[Factor, Factor], Rising]


class TextureWindow(NamedTuple):
    """A window and the mask of its defect, which may be empty."""

    image: Pixels
    mask: Pixels


def read_pictures(folder: Path, side: int) -> list[Pixels]:
    """Every picture below a folder whose smaller side is at least `side` px, by path. Raises DataError if there is none."""
    pictures: list[Pixels] = []
    for path in sorted(walk(folder)):
        try:
            pixels = read_image(path, max_megapixels=MOST_MEGAPIXELS, grey=BY_FILE).pixels
        except DataError:  # a table, or a licence
            continue
        if min(pixels.shape[:2]) >= side:
            pictures.append(pixels)
    if not pictures:
        raise DataError(f"Expected pictures of at least {side} px below {folder}, found none. Name a folder of textures.")
    return pictures


class TextureWindows:
    """Draws windows from pictures by a recipe."""

    def __init__(self, pictures: Sequence[Pixels], recipe: TextureBase) -> None:
        self.pictures, self.recipe = pictures, recipe

    def draw(self, random: np.random.Generator) -> TextureWindow:
        """A window; every choice is drawn from the generator."""
        texture, mask = self._texture(random), np.zeros((self.recipe.image_size,) * 2, np.uint8)
        if random.random() < self.recipe.defective:
            mask = self._mask(random)
            texture = paste_back(self._filling(texture, random), texture, mask)
        return TextureWindow(self._coloured(texture, random), mask)

    def _texture(self, random: np.random.Generator) -> Pixels:
        side = self.recipe.image_size
        if random.random() < self.recipe.computed:
            return procedural(side, side, int(random.integers(SEEDS)))
        picture = self.pictures[int(random.integers(len(self.pictures)))]
        taken = min(int(side * random.choice(self.recipe.scales)), *picture.shape[:2])
        top, left = (int(random.integers(length - taken, endpoint=True)) for length in picture.shape[:2])
        part = picture[top : top + taken, left : left + taken]
        part = part if taken == side else np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        return turn(part, int(random.integers(TURNS)))

    def _mask(self, random: np.random.Generator) -> Pixels:
        """A crack, a scratch or a pit somewhere in the window, cut off at its edges."""
        side = self.recipe.image_size
        area = np.exp(random.uniform(*np.log(self.recipe.defect_area))) * side**2
        shape = DRAWN[list(DRAWN)[random.integers(len(DRAWN))]](int(area), LONGEST * side, random)
        centre = random.integers(side, size=2)
        canvas = np.zeros((side + 2 * shape.shape[0], side + 2 * shape.shape[1]), np.uint8)
        top, left = centre + np.array(shape.shape) // 2
        canvas[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
        return canvas[shape.shape[0] :, shape.shape[1] :][:side, :side]

    def _filling(self, texture: Pixels, random: np.random.Generator) -> Pixels:
        if random.random() < self.recipe.other_texture:
            return self._texture(random)
        return _levels(texture, random.uniform(*CHANGES), random.normal(0, self.recipe.brightness))

    def _coloured(self, window: Pixels, random: np.random.Generator) -> Pixels:
        if random.random() < self.recipe.grey:
            window = np.repeat(np.asarray(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)
        return _levels(window, random.uniform(*self.recipe.contrast), random.normal(0, self.recipe.brightness))


def _levels(window: Pixels, contrast: float, brightness: float) -> Pixels:
    mean = window.mean()
    return np.clip((window - mean) * contrast + np.clip(mean + brightness, 10, 245), 0, 255).astype(np.uint8)
