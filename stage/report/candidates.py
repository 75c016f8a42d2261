"""The near-duplicates of a category, for a person to look at: a page with all pictures in it, and a draft of groups."""

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.durable import write_whole
from stage.core.errors import DataError
from stage.datasets.examples import CATALOG
from stage.datasets.group_files import accept_groups, read_draft, write_draft
from stage.datasets.groups import read_groups
from stage.datasets.layouts import data_root, rule_of
from stage.datasets.near_duplicates import SIMILAR, Cluster, near_duplicates
from stage.datasets.pairs import decode_image
from stage.datasets.table import read_catalog
from stage.report.cards import templates

PAGE, DRAFT = "candidates.html", "groups.csv"
EDGE = 160  # px; longest side of a picture on the page


class Candidates(NamedTuple):
    """The clusters of a category, the least similarity asked for, the page that shows them, and the draft of a groups file.

    `draft` is None if none was written; without clusters the page is not written either. `before_accepting` says what must be done
    before a cluster can be accepted; empty if nothing.
    """

    category: str
    similarity: float
    clusters: list[Cluster]
    page: Path
    draft: Path | None
    before_accepting: str

    @property
    def astride(self) -> int:
        """Clusters on both sides of the split."""
        return sum(one.straddles for one in self.clusters)

    def as_json(self) -> dict[str, Any]:
        """The candidates for machines; clusters are numbered as in the draft."""
        numbered = [{"cluster": number, **one._asdict()} for number, one in enumerate(self.clusters, 1)]
        return {**self._asdict(), "clusters": numbered}


def propose_groups(params: Prepare, category: str, data: Path, output: Path, similarity: float | None = None) -> Candidates:
    """Look for near-duplicates in a prepared category; writes page and draft to `output/<category>`. Changes nothing else.

    If there are none, neither is written, and the files of an earlier search are removed.
    Raises DataError if the category is not prepared, or its groups file cannot be read.
    """
    least = SIMILAR if similarity is None else similarity
    path = data / "prepare" / category / CATALOG
    root, name = _place(params, category)
    accepted = _accepted(path)
    groups = read_groups(root, name, accepted["image_path"].tolist()).of
    found, draft, shown = _clusters(path, accepted, groups, least), output / category / DRAFT, output / category / PAGE
    if not found:
        draft.unlink(missing_ok=True)
        shown.unlink(missing_ok=True)
        return Candidates(category, least, found, shown, None, "")
    write_draft(found, groups, draft)
    candidates = Candidates(category, least, found, shown, draft, _before_accepting(params, name))
    page = templates().get_template("candidates.html.jinja").render(candidates=candidates, rows=pictured(candidates, data))
    write_whole(page, shown)
    return candidates


def candidates_of(params: Prepare, category: str, data: Path, page: Path) -> Candidates:
    """The near-duplicates of a prepared category that its split does not already group, for a page to show; writes nothing."""
    path = data / "prepare" / category / CATALOG
    accepted = _accepted(path)
    groups = dict(zip(accepted["image_path"], accepted["group"], strict=True))
    found, (_, name) = _clusters(path, accepted, groups, SIMILAR), _place(params, category)
    return Candidates(category, SIMILAR, found, page, None, _before_accepting(params, name))


def pictured(candidates: Candidates, data: Path) -> dict[str, Any]:
    """The rows of the catalog for the photographs of all clusters, by path, each with its `picture` as a data URL."""
    path = data / "prepare" / candidates.category / CATALOG
    shown = sorted({file for one in candidates.clusters for file in one.files})
    rows = pq.read_table(path, columns=["image_path", "defect", "split", "image"], filters=[("image_path", "in", shown)]).to_pylist()
    return {row["image_path"]: {**row, "picture": _picture(row["image"]["bytes"])} for row in rows}


def confirm_groups(params: Prepare, category: str, data: Path, output: Path, accept: str) -> tuple[Path, int]:
    """Write the accepted clusters of the draft into the data folder's groups file; returns its path and how many lines it gained.

    Raises DataError if there is no such cluster, or if the layout has no place for a groups file.
    """
    draft = output / category / DRAFT
    root, name = _place(params, category)
    chosen = read_draft(draft, accept)
    if first := _before_accepting(params, name):
        raise DataError(f"Expected a groups file to write into, found none. {first} Then accept again; the draft is {draft}.")
    images = read_catalog(data / "prepare" / category / CATALOG)["image_path"].dropna().tolist()
    return root / name, accept_groups(chosen, root, name, images)


def _place(params: Prepare, category: str) -> tuple[Path, str]:
    """The data folder, and the groups file below it; empty if the layout has none."""
    root = data_root(Path(params.source), params.layout, category)
    return root, rule_of(params, [category]).groups.replace("{category}", category)


def _before_accepting(params: Prepare, name: str) -> str:
    """What must be done first if a groups file, by its `name` below the data folder, would not be kept or read; else empty."""
    if params.layout == "demo":
        return (
            "The demo is drawn anew each time and keeps no groups file: first draw it once with `stage demo-data FOLDER`, and read it with "
            "`stage use-data FOLDER`."
        )
    if not name:
        return "No groups file is read: first set prepare.folder.groups in params.yaml to a path in the data folder, such as `groups.csv`."
    return ""


def _accepted(path: Path) -> pd.DataFrame:
    catalog = read_catalog(path)
    return catalog[catalog["status"] == "accepted"]


def _clusters(path: Path, accepted: pd.DataFrame, groups: Mapping[str, str], least: float) -> list[Cluster]:
    return near_duplicates(_images(path), accepted["image_path"].tolist(), accepted["split"].tolist(), groups, least)


def _images(path: Path) -> Iterator[np.ndarray]:
    for batch in pq.ParquetFile(path).iter_batches(columns=["image"]):
        yield from (decode_image(cell["bytes"]) for cell in batch["image"].to_pylist() if cell and cell["bytes"])


def _picture(png: bytes) -> str:
    """A picture as a data URL."""
    image, buffer = Image.fromarray(decode_image(png)), io.BytesIO()
    image.thumbnail((EDGE, EDGE))
    image.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
