"""The texture bank of a folder of pictures, and the interface of every bank. H, W size of the sample; pictures are (H, W, 3) uint8 RGB."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from stage.core.arrays import Pixels
from stage.core.digests import digest_if_readable
from stage.core.errors import ConfigError, CorruptFileError, DataError
from stage.core.synthesis_params import Textures
from stage.datasets.images import BY_FILE, read_image
from stage.datasets.recalled import Withdrawn
from stage.datasets.walking import is_folder, trouble_of, walk
from stage.synthesis.plan import one_of

NOTHING = Withdrawn()
MEMORY = Path(".spool/textures.json")  # digests of a folder's files, so that no file is read twice
MOST_MEGAPIXELS = 200  # of a picture; larger ones are refused as decompression bombs
SHOWN = 5  # files in a message


class Texture(NamedTuple):
    """A texture of the bank: the path and SHA-256 of its file, both empty for a computed one, and the seed of its random choices."""

    path: str
    sha256: str
    seed: int


class Bank(Protocol):
    """Where textures come from."""

    def draw(self, random: np.random.Generator) -> Texture:
        """Any texture of the bank."""
        ...

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """Its pixels, in the file's own size; a computed texture has the given size."""
        ...


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
        """Files that do not begin like a picture, or whose picture is too large; damage farther on shows when the file is drawn."""
        return [path for path in self.paths if not self._opens(path)]

    def _opens(self, path: str) -> bool:
        try:
            with Image.open(self.root / path) as picture:
                return picture.width * picture.height <= MOST_MEGAPIXELS * 1_000_000
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False

    @cached_property
    def pool(self) -> list[str | None]:
        """The paths, with None in the place of each recalled one, even if its file is gone."""
        known = self.recalled.digests
        gone = {path for path in self.paths if known and digest_if_readable(self.root / path) in known} | (
            self.recalled.textures - {*self.paths}
        )
        return [None if path in gone else path for path in sorted({*self.paths, *gone})]

    def draw(self, random: np.random.Generator) -> Texture:
        """Any of the pictures; raises ConfigError for one that cannot be decoded."""
        path = one_of(self.pool, random)
        return Texture(path, self.checked(path), 0)

    def picture(self, texture: Texture, height: int, width: int) -> Pixels:
        """Decoded anew; raises CorruptFileError if it is not the file that was planned."""
        if (found := digest_if_readable(self.root / texture.path)) != texture.sha256:
            raise CorruptFileError(
                f"Expected the planned texture {texture.sha256[:12]} at {self.root / texture.path}, found {found[:12] or 'no file'}: it has "
                "changed since. Run `dvc repro synthesize`."
            )
        return self._decoded(texture.path)

    def _checked(self, path: str) -> str:
        self._decoded(path)
        return digest_if_readable(self.root / path)

    def _decoded(self, path: str) -> Pixels:
        try:
            return read_image(self.root / path, max_megapixels=MOST_MEGAPIXELS, grey=BY_FILE).pixels
        except DataError as error:
            raise ConfigError(f"Expected a picture at {self.root / path}, found: {error}. Remove it from textures.source.") from None


def check_folder(params: Textures, photographs: Path) -> None:
    """Raise ConfigError if `source` names a folder without pictures, with unreadable ones, or one that may hold evaluation images.

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
