"""Reads what the other verbs publish under `data/`; decodes only the pictures that are shown."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from PIL import Image
from pydantic import BaseModel

from stage.core.errors import CorruptFileError, Refusal
from stage.core.json_files import read_json
from stage.datasets.pairs import decode_image
from stage.release.reader import shard_paths
from stage.report.sheets import Panel, Specimen, enlargement
from stage.segmentation.arms import REAL_ONLY

Row = dict[str, Any]
Cell = dict[str, bytes]  # the struct<bytes, path> of a Parquet column


@dataclass(frozen=True)
class SampleCounts:
    """Verdicts on one defect type's samples; of the accepted ones, the median contrast and the largest change outside, of 255."""

    defect: str
    accepted: int
    rejected: int
    reasons: tuple[tuple[str, int], ...]
    contrast: float
    outside: float

    @property
    def made(self) -> int:
        """All samples, whatever their verdict."""
        return self.accepted + self.rejected


class ImageCounts(BaseModel):
    """What the report says of a defect type's real images; the summary has more."""

    accepted: int
    train: int
    test: int
    set_aside: int


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV artefact, which has these columns; raises CorruptFileError."""
    try:
        with _existing(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise CorruptFileError(
            f"Expected a comma-separated table in UTF-8 in {path}, found {error}. Delete it and run `dvc repro`."
        ) from None
    wrong = next((row for row in rows if not all(isinstance(row.get(name), str) for name in columns)), None)
    if wrong is not None:
        found = ", ".join(f"{name}: {value}" for name, value in wrong.items())
        raise CorruptFileError(f"Expected the columns {', '.join(columns)} in {path}, found {found}. Delete it and run `dvc repro`.")
    return rows


def image_counts(data: Path) -> list[Row]:
    """Counts of the real images, a row per category and defect type."""
    path = data / "prepare" / "summary.json"
    summary = read_json(path, dict[str, dict[str, ImageCounts]], what="counts of the real images", mend="dvc repro prepare")
    return [{"category": category, "defect": defect, **counts} for category, types in summary.items() for defect, counts in types.items()]


def outcomes(data: Path, category: str, method: str) -> list[SampleCounts]:
    """Per defect type, in sorted order: how many samples were accepted, and why the others were not."""
    rows = query_rows(shard_paths(data / "synthesize" / category / method), ["defect", "verdict", "reason", "contrast", "outside"])
    return [_outcome(defect, [row for row in rows if row["defect"] == defect]) for defect in sorted({row["defect"] for row in rows})]


def synthetic_specimens(data: Path, category: str, method: str, defect: str, count: int, *, verdict: str = "accepted") -> list[Specimen]:
    """The first `count` samples of a defect type by ordinal: background, mask, synthetic image, enlarged defect."""
    wanted = (pc.field("defect") == defect) & (pc.field("verdict") == verdict) & pc.field("image").is_valid()
    keys = sorted(
        query_rows(shard_paths(data / "synthesize" / category / method), ["ordinal", "sample_id"], wanted), key=lambda row: row["ordinal"]
    )[:count]
    names = ["ordinal", "sample_id", "contrast", "reason", "background_sha256", "image", "mask"]
    rows = query_rows(shard_paths(data / "synthesize" / category / method), names, _among("sample_id", [key["sample_id"] for key in keys]))
    backgrounds = originals(data, category, {row["background_sha256"] for row in rows})
    return [_synthetic(row, backgrounds.get(row["background_sha256"])) for row in sorted(rows, key=lambda row: row["ordinal"])]


def originals(data: Path, category: str, hashes: Collection[str]) -> dict[str, Cell]:
    """Prepared images of a category by their content hash; missing ones are left out."""
    wanted = _among("image_sha256", sorted(hashes)) & pc.field("image").is_valid()
    return {row["image_sha256"]: row["image"] for row in query_rows([catalog(data, category)], ["image_sha256", "image"], wanted)}


def real_specimens(data: Path, category: str, defect: str, count: int) -> list[Specimen]:
    """The first `count` real training images of a defect type: image, mask, enlarged defect."""
    wanted = (pc.field("defect") == defect) & (pc.field("split") == "train") & pc.field("mask").is_valid()
    rows = query_rows([catalog(data, category)], ["image_path", "image", "mask"], wanted)[:count]
    return [_real(row) for row in rows]


def predictions(data: Path, category: str, arm: str, per_defect: int) -> dict[str, list[Specimen]]:
    """Some test images per defect type: image, truth, and the defect probability by the real third alone and by an arm."""
    path = data / "segment" / category / "predictions.parquet"
    columns = ["defect", "image_path", "image", "mask", REAL_ONLY, arm]
    rows = query_rows([path], columns, pc.field("mask").is_valid()) if path.is_file() else []
    by_defect = {defect: [row for row in rows if row["defect"] == defect] for defect in {row["defect"] for row in rows}}
    return {defect: [_prediction(row, arm) for row in some[:per_defect]] for defect, some in by_defect.items()}


def catalog(data: Path, category: str) -> Path:
    """The catalog of a category."""
    return data / "prepare" / category / "catalog.parquet"


def decoded_picture(cell: Cell) -> Image.Image:
    """The RGB picture in a Parquet cell; raises CorruptFileError."""
    return Image.fromarray(decode_image(cell["bytes"]))


def query_rows(paths: Sequence[Path], columns: Sequence[str], where: pc.Expression | None = None) -> list[Row]:
    """Those rows of Parquet files that satisfy `where`; raises CorruptFileError."""
    files = [str(_existing(path)) for path in paths]
    try:
        return pads.dataset(files).to_table(columns=list(columns), filter=where).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptFileError(
            f"Expected Parquet with the columns {', '.join(columns)} in {files[0]} and what lies beside it, found files that cannot be "
            f"read so: {reason} Delete them and run `dvc repro`."
        ) from None


def _among(column: str, values: Sequence[str]) -> pc.Expression:
    return pc.field(column).isin(pa.array(values, pa.string()))  # an untyped empty list matches no column


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise Refusal(f"Expected {path} for the report, found no such file. Run `dvc repro`, which makes it before the report.")
    return path


def _outcome(defect: str, rows: Sequence[Row]) -> SampleCounts:
    accepted = [row for row in rows if row["verdict"] == "accepted"]
    reasons = Counter(reason for row in rows if row["verdict"] != "accepted" for reason in _reason_kinds(row["reason"]))
    return SampleCounts(
        defect=defect,
        accepted=len(accepted),
        rejected=len(rows) - len(accepted),
        reasons=tuple(reasons.most_common()),
        contrast=median(row["contrast"] for row in accepted) if accepted else 0.0,
        outside=max((row["outside"] for row in accepted), default=0),
    )


def _reason_kinds(reason: str) -> list[str]:
    """The reasons of one sample without what differs between samples: numbers, and what follows a colon."""
    return [re.sub(r"\d+(\.\d+)?", "…", part.partition(":")[0]) for part in reason.split("; ")]


def _synthetic(row: Row, background: Cell | None) -> Specimen:
    first = [Panel("background", decoded_picture(background))] if background else []
    mask = decoded_picture(row["mask"])
    why = f", {row['reason']}" if row["reason"] else ""
    panels = (*first, Panel("mask", mask), *enlargement("synthetic", decoded_picture(row["image"]), mask))
    return Specimen(f"contrast {row['contrast']:.0f}{why}, {row['sample_id']}", panels)


def _real(row: Row) -> Specimen:
    mask = decoded_picture(row["mask"])
    return Specimen(row["image_path"], (Panel("mask", mask), *enlargement("real", decoded_picture(row["image"]), mask)))


def _prediction(row: Row, arm: str) -> Specimen:
    columns = {"image": "image", "mask": "truth", REAL_ONLY: "real only", arm: "+ synthetic"}
    return Specimen(row["image_path"], tuple(Panel(label, decoded_picture(row[column])) for column, label in columns.items()))
