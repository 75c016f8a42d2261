"""The texture bank: where DRAEM and GLASS take the appearance of a defect from.

The papers draw from the Describable Textures Dataset. The bank is a folder of pictures, the normal photographs of the other categories or
of the own one, or textures that are computed. H, W size of the sample. Pictures and textures are (H, W, 3) uint8 RGB.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from stage.core.arrays import Pixels
from stage.core.digests import digest_of
from stage.core.errors import ConfigError
from stage.core.synthesis_params import Textures
from stage.datasets.examples import CATALOG
from stage.datasets.inventory import inventory
from stage.datasets.recalled import read_withdrawn
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_part
from stage.datasets.windows import TURNS, turn
from stage.synthesis.plan import Background, background_pool, one_of
from stage.synthesis.procedural import procedural
from stage.synthesis.source import Source, read_source
from stage.synthesis.texture_folder import MEMORY, Bank, Folder, Texture

CROP = (0.25, 0.75)  # of the photograph's side; size of the part that becomes an own texture
SEEDS = 2**62


def bank_of(params: Textures, catalog: Path) -> Bank:
    """The bank of a prepared category, `data/prepare/<category>`. Raises ConfigError if there is nothing to draw from."""
    if params.source == "procedural":
        return Procedural()
    if params.source == "own":
        return Own(catalog)
    return Others(catalog) if params.source == "others" else Folder(Path(params.source), read_withdrawn(catalog))


def bank_digest(params: Textures, catalog: Path) -> str:
    """Digest of everything that a bank can draw; empty for computed textures."""
    if params.source == "procedural":
        return ""
    if params.source in ("own", "others"):
        folders = [catalog] if params.source == "own" else other_categories(catalog)
        return digest_of([[one.name, _normals(one)] for one in folders])
    return digest_of(inventory(Path(params.source), MEMORY))


def _normals(folder: Path) -> list[list[str]]:
    """The path and digests of each normal training photograph of a prepared category."""
    training = training_part(read_catalog(folder / CATALOG))
    return training.loc[training.defect == GOOD, ["image_path", "image_sha256", "image_digest"]].astype(str).values.tolist()


def other_categories(catalog: Path) -> list[Path]:
    """The prepared categories beside this one."""
    return sorted(file.parent for file in catalog.parent.glob(f"*/{CATALOG}") if file.parent.name != catalog.name)


class Procedural:
    """Computed textures; as many as there are seeds."""

    def draw(self, random: np.random.Generator) -> Texture:
        """A new one."""
        return Texture("", "", int(random.integers(SEEDS)))

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """Computed in the size asked for."""
        return procedural(height, width, texture.seed)


class Own:
    """Parts of the category's own normal training photographs, turned, mirrored and in other colours."""

    def __init__(self, catalog: Path) -> None:
        self.catalog = catalog

    @cached_property
    def normals(self) -> list[Background | None]:
        """The photographs to draw from, with places for recalled ones."""
        return background_pool(read_catalog(self.catalog / CATALOG))

    @cached_property
    def source(self) -> Source:
        """The photographs' pixels."""
        return read_source(self.catalog)

    def draw(self, random: np.random.Generator) -> Texture:
        """A part of any of them."""
        normal = one_of(self.normals, random)
        return Texture(normal.image_path, normal.image_sha256, int(random.integers(SEEDS)))

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """A square of a quarter to three quarters of the photograph's side."""
        random, whole = np.random.default_rng(texture.seed), self.source.backgrounds[texture.sha256].image
        side = max(1, round(random.uniform(*CROP) * min(whole.shape[:2])))
        top, left = (int(random.integers(0, length - side, endpoint=True)) for length in whole.shape[:2])
        part = turn(whole[top : top + side, left : left + side], int(random.integers(TURNS)))
        recoloured = part[..., random.permutation(3)]
        return np.ascontiguousarray(255 - recoloured if random.random() < 0.5 else recoloured)


class Others:
    """The normal training photographs of the other prepared categories, whole."""

    def __init__(self, catalog: Path) -> None:
        self.folders = {folder.name: folder for folder in other_categories(catalog)}
        if not self.folders:
            raise ConfigError(
                f"Expected other categories for `textures.source: others`, found {catalog.name} alone in {catalog.parent}. "
                "Add a category, or set textures.source to own, procedural or a folder of pictures."
            )
        self.source = lru_cache(None)(lambda name: read_source(self.folders[name]))

    @cached_property
    def normals(self) -> Mapping[str, list[Background | None]]:
        """The photographs to draw from, by category, with places for recalled ones."""
        return {name: background_pool(read_catalog(folder / CATALOG)) for name, folder in self.folders.items()}

    def draw(self, random: np.random.Generator) -> Texture:
        """A photograph of any category, all equally likely; `seed` numbers the category."""
        number = int(random.integers(len(self.folders)))
        normal = one_of(self.normals[[*self.folders][number]], random)
        return Texture(normal.image_path, normal.image_sha256, number)

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """The prepared photograph."""
        return self.source([*self.folders][texture.seed]).backgrounds[texture.sha256].image
