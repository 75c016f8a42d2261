"""The texture bank: where DRAEM and GLASS take the appearance of a defect from.

The papers draw from the Describable Textures Dataset. The bank is a folder of pictures, the normal photographs of the other categories or
of the own one, or textures that are computed. H, W size of the sample. Pictures and textures are (H, W, 3) uint8 RGB.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stage.core.digests import digest_of
from stage.core.errors import ConfigError, CorruptFileError, DataError
from stage.core.synthesis_params import Textures
from stage.datasets.examples import CATALOG
from stage.datasets.images import read_image
from stage.datasets.inventory import inventory
from stage.datasets.recalled import Withdrawn, read_withdrawn
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_part
from stage.datasets.walking import is_folder, trouble_of, walk
from stage.datasets.windows import TURNS, turn
from stage.synthesis.plan import Background, background_pool, one_of
from stage.synthesis.procedural import procedural
from stage.synthesis.source import Source, read_source

NOTHING = Withdrawn()
MEMORY = Path(".spool/textures.json")  # digests of a folder's files, so that no file is read twice
MOST_MEGAPIXELS = 200  # of a picture; larger ones are refused as decompression bombs
CROP = (0.25, 0.75)  # of the photograph's side; an own texture is so large a part of it
SEEDS = 2**62
SHOWN = 5  # files in a message
ASPECT = 4  # times the sample's aspect; a strip of 1 x 20,000 px would otherwise become one of gigabytes
Pixels = NDArray[np.uint8]


class Texture(NamedTuple):
    """A texture of the bank: the path and SHA-256 of its file, both of which are empty for a computed one, and the seed of what is random in it."""

    path: str
    sha256: str
    seed: int


class Bank(Protocol):
    """Where textures come from."""

    def draw(self, random: np.random.Generator) -> Texture:
        """Any texture of the bank."""
        ...

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """Its pixels, in the file's own size; in this one for a computed texture."""
        ...


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
    """The normal training photographs of a prepared category, as all that tells them apart."""
    training = training_part(read_catalog(folder / CATALOG))
    return training.loc[training.defect == GOOD, ["image_path", "image_sha256", "image_digest"]].astype(str).values.tolist()


def check_folder(params: Textures, photographs: Path) -> None:
    """Raise ConfigError if `source` names a folder without pictures, with files that are none, or one that may hold evaluation images.

    `photographs`: the folder of the data set.
    """
    if params.source in ("procedural", "own", "others"):
        return
    folder = Folder(Path(params.source))
    for other in (photographs, Path("data")):
        one, two = folder.root.resolve(), other.resolve()
        if one.is_relative_to(two) or two.is_relative_to(one):
            raise ConfigError(
                f"Expected textures.source apart from the photographs, found {params.source!r}, which shares files with {other}: evaluation "
                "images could become textures. Set it to own or others, which take normal training photographs, or copy the textures elsewhere."
            )
    if bad := folder.unreadable():
        raise ConfigError(
            f"Expected pictures below textures.source, found {len(bad)} that cannot be opened: {', '.join(bad[:SHOWN])}"
            f"{', ...' if len(bad) > SHOWN else ''}. Remove them from {params.source}."
        )


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
        """What there is to draw from, with places for what was recalled."""
        return background_pool(read_catalog(self.catalog / CATALOG))

    @cached_property
    def source(self) -> Source:
        """Their pixels."""
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
        """What there is to draw from, by category, with places for what was recalled."""
        return {name: background_pool(read_catalog(folder / CATALOG)) for name, folder in self.folders.items()}

    def draw(self, random: np.random.Generator) -> Texture:
        """A photograph of any category, all equally likely; `seed` numbers the category."""
        number = int(random.integers(len(self.folders)))
        normal = one_of(self.normals[[*self.folders][number]], random)
        return Texture(normal.image_path, normal.image_sha256, number)

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """As it was prepared."""
        return self.source([*self.folders][texture.seed]).backgrounds[texture.sha256].image


class Folder:
    """The pictures below a folder, in any subfolders, known by their extensions. Recalled ones keep their places, and are not drawn."""

    def __init__(self, root: Path, recalled: Withdrawn = NOTHING) -> None:
        """Raises ConfigError if there are none."""
        self.root, self.recalled = root, recalled
        found = walk(root) if is_folder(root) else ()
        self.paths = sorted(path.relative_to(root).as_posix() for path in found if not trouble_of(path, root))
        if not self.paths:
            raise ConfigError(
                f"Expected textures.source to be procedural, own, others, or a folder of pictures, found {str(root)!r}: "
                f"{'no picture in it' if is_folder(root) else 'no such folder'}. Correct the path; procedural needs no files."
            )
        self.checked = lru_cache(None)(self._checked)

    def unreadable(self) -> list[str]:
        """Files whose first bytes are those of no picture, or of one that is too large; what is damaged farther on shows when it is drawn."""
        return [path for path in self.paths if not self._opens(path)]

    def _opens(self, path: str) -> bool:
        try:
            with Image.open(self.root / path) as picture:
                return picture.width * picture.height <= MOST_MEGAPIXELS * 1_000_000
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False

    @cached_property
    def pool(self) -> list[str | None]:
        """The paths, None in the place of each that was recalled, also of one whose file is gone."""
        known = self.recalled.digests
        gone = {path for path in self.paths if known and self._digest(path) in known} | (self.recalled.textures - {*self.paths})
        return [None if path in gone else path for path in sorted({*self.paths, *gone})]

    def draw(self, random: np.random.Generator) -> Texture:
        """Any of the pictures; raises ConfigError for one that cannot be decoded."""
        path = one_of(self.pool, random)
        return Texture(path, self.checked(path), 0)

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """Decoded anew; raises CorruptFileError if it is not the file that was planned."""
        if (found := self._digest(texture.path)) != texture.sha256:
            raise CorruptFileError(
                f"Expected the planned texture {texture.sha256[:12]} at {self.root / texture.path}, found {found[:12] or 'no file'}: it has "
                "changed since. Run `dvc repro synthesize`."
            )
        return self._decoded(texture.path)

    def _checked(self, path: str) -> str:
        self._decoded(path)
        return self._digest(path)

    def _digest(self, path: str) -> str:
        try:
            return sha256((self.root / path).read_bytes()).hexdigest()
        except OSError:
            return ""

    def _decoded(self, path: str) -> Pixels:
        try:
            return read_image(self.root / path, max_megapixels=MOST_MEGAPIXELS).pixels
        except DataError as error:
            raise ConfigError(f"Expected a picture at {self.root / path}, found: {error}. Remove it from textures.source.") from None


def stretched(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture in this size; its aspect is not kept."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def covering(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture in the least size, of its own aspect, that covers this one. Of a long strip the middle alone is kept."""
    most = ASPECT * max(height, width) / min(height, width)
    longest = max(1, int(most * min(picture.shape[:2])))
    picture = centre_crop(picture, *(min(side, longest) for side in picture.shape[:2]))
    scale = max(height / picture.shape[0], width / picture.shape[1])
    return stretched(picture, *(max(least, round(scale * side)) for side, least in zip(picture.shape, (height, width), strict=False)))


def centre_crop(picture: Pixels, height: int, width: int) -> Pixels:
    """The middle of a picture that covers this size."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
