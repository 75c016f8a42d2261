"""The photographs that samples of a category may be made from, each as one small picture that all pages share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc

from stage.report.artefacts import catalog, decoded_picture, stream_rows
from stage.report.gallery import write_picture
from stage.report.sheets import Panel

COLUMNS = ("image_path", "image_sha256", "mask_path", "mask_sha256", "defect", "group", "licence", "image", "mask")


class Photograph(NamedTuple):
    """A training photograph and, if it shows a defect, its mask; `picture` shows both and is relative to the pages, its size in px.

    `anchor` is its place on the page of lineage. Paths are below the data folder; without a mask its path and digest are empty.
    """

    anchor: str
    path: str
    sha256: str
    mask_path: str
    mask_sha256: str
    defect: str
    group: str
    licence: str
    picture: str
    width: int
    height: int

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """The path and the digest of its file, and of its mask's."""
        own = ((self.path, self.sha256),)
        return (*own, (self.mask_path, self.mask_sha256)) if self.mask_sha256 else own


def write_photographs(data: Path, category: str, *, root: Path, folder: Path) -> list[Photograph]:
    """Every accepted training photograph of a category, in the order of the catalog, its picture written below `root / folder`."""
    wanted = (pc.field("status") == "accepted") & (pc.field("split") == "train") & pc.field("image").is_valid()
    (root / folder).mkdir(parents=True, exist_ok=True)
    rows = stream_rows([catalog(data, category)], COLUMNS, wanted)
    return [_written(number, row, root, folder / f"{number:05}.webp") for number, row in enumerate(rows)]


def _written(number: int, row: Mapping[str, Any], root: Path, path: Path) -> Photograph:
    shown = [Panel("photograph", decoded_picture(row["image"]))]
    if row["mask_sha256"]:
        shown.append(Panel("mask", decoded_picture(row["mask"])))
    told = {name: row[name] or "" for name in ("mask_path", "mask_sha256", "defect", "group", "licence")}
    width, height = write_picture(shown, root / path)
    return Photograph(f"p{number}", row["image_path"], row["image_sha256"], **told, picture=path.as_posix(), width=width, height=height)
