"""Reads what the other verbs publish under `data/`; decodes only the pictures that are shown."""

import csv
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from PIL import Image
from pydantic import BaseModel

from stage.core.errors import CorruptFileError, Refusal
from stage.core.json_files import read_json
from stage.datasets.pairs import decode_image
from stage.datasets.rules import GOOD
from stage.datasets.summary import without_numbers
from stage.release.reader import shard_paths
from stage.synthesis.rows import TypeRecord
from stage.synthesis.schema import VERDICT

BATCH = 64  # rows whose pictures are in memory

Row = dict[str, Any]
ImageCell = dict[str, bytes]  # the struct<bytes, path> of a Parquet column


@dataclass(frozen=True)
class SampleCounts:
    """Verdicts on one defect type's samples; `contrast` is the median of the accepted ones, of 255.

    `looks_normal` is a share of the accepted ones' labelled pixels, `copies` a share of all samples; `record` is the row of the
    verdict's table, None if every sample is kept.
    """

    defect: str
    accepted: int
    rejected: int
    reasons: tuple[tuple[str, int], ...]
    contrast: float
    looks_normal: float
    copies: float
    record: Row | None

    @property
    def made(self) -> int:
        """All samples, whatever their verdict."""
        return self.accepted + self.rejected


class ImageCounts(BaseModel):
    """The report's counts of a defect type's real images; the summary has more."""

    accepted: int
    train: int
    test: int
    set_aside: int


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV artefact; raises CorruptFileError if it cannot be read or lacks one of the columns."""
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


def scarce_types(data: Path, category: str, few: int) -> list[str]:
    """The types whose test images are of fewer than `few` groups, in sorted order."""
    tested = (pc.field("status") == "accepted") & (pc.field("split") == "test") & (pc.field("defect") != GOOD)
    groups: dict[str, set[str]] = {}
    for row in query_rows([catalog(data, category)], ["defect", "group"], tested):
        groups.setdefault(row["defect"], set()).add(row["group"])
    return sorted(defect for defect, found in groups.items() if len(found) < few)


def outcomes(data: Path, category: str, method: str) -> list[SampleCounts]:
    """Per defect type, in sorted order: how many samples were accepted, and why the others were not."""
    folder = data / "synthesize" / category / method
    columns = ["defect", "verdict", "reason", "contrast", "looks_normal", "nearest_distance"]
    records = {row["defect"]: row for row in query_rows([folder / VERDICT], list(TypeRecord._fields))}
    tallies: dict[str, _Tally] = {}
    for row in stream_rows(shard_paths(folder), columns):
        defect = row["defect"]
        tallies.setdefault(defect, _Tally(records.get(defect))).add(row)
    return [tally.counts(defect) for defect, tally in sorted(tallies.items())]


def originals(data: Path, category: str, hashes: Collection[str]) -> dict[str, ImageCell]:
    """Prepared images of a category by their content hash; missing ones are left out."""
    wanted = among("image_sha256", sorted(hashes)) & pc.field("image").is_valid()
    return {row["image_sha256"]: row["image"] for row in query_rows([catalog(data, category)], ["image_sha256", "image"], wanted)}


def catalog(data: Path, category: str) -> Path:
    """The catalog of a category."""
    return data / "prepare" / category / "catalog.parquet"


def decoded_picture(cell: ImageCell) -> Image.Image:
    """The RGB picture in a Parquet cell; raises CorruptFileError."""
    return Image.fromarray(decode_image(cell["bytes"]))


def query_rows(paths: Sequence[Path], columns: Sequence[str], where: pc.Expression | None = None) -> list[Row]:
    """The rows of Parquet files that satisfy `where`; raises CorruptFileError."""
    return list(stream_rows(paths, columns, where))


def stream_rows(paths: Sequence[Path], columns: Sequence[str], where: pc.Expression | None = None) -> Iterator[Row]:
    """The rows of Parquet files that satisfy `where`, in order, a batch in memory at a time; raises CorruptFileError."""
    files = [str(_existing(path)) for path in paths]
    try:
        for batch in pads.dataset(files).to_batches(columns=list(columns), filter=where, batch_size=BATCH, batch_readahead=1):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptFileError(
            f"Expected Parquet with the columns {', '.join(columns)} in {files[0]} and what lies beside it, found files that cannot be "
            f"read so: {reason} Delete them and run `dvc repro`."
        ) from None


def among(column: str, values: Sequence[str]) -> pc.Expression:
    """Whether a column of texts has one of these values."""
    return pc.field(column).isin(pa.array(values, pa.string()))  # an untyped empty list matches no column


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise Refusal(f"Expected {path} for the report, found no such file. Run `dvc repro`, which makes it before the report.")
    return path


class _Tally:
    """Counts a type's samples one by one: of a million, it keeps two numbers each."""

    def __init__(self, record: Row | None) -> None:
        self._record = record
        self._made = self._copies = 0
        self._reasons = Counter[str]()
        self._contrasts, self._looks_normal = array("d"), array("d")  # of the accepted ones

    def add(self, row: Row) -> None:
        self._made += 1
        self._copies += self._record is not None and row["nearest_distance"] < self._record["copy_distance"]
        if row["verdict"] == "accepted":
            self._contrasts.append(row["contrast"])
            self._looks_normal.append(row["looks_normal"])
        else:
            self._reasons.update(_reason_kinds(row["reason"]))

    def counts(self, defect: str) -> SampleCounts:
        accepted = len(self._contrasts)
        return SampleCounts(
            defect=defect,
            accepted=accepted,
            rejected=self._made - accepted,
            reasons=tuple(self._reasons.most_common()),
            contrast=median(self._contrasts) if accepted else 0.0,
            looks_normal=fmean(self._looks_normal) if accepted else 0.0,
            copies=self._copies / self._made if self._record else 0.0,
            record=self._record,
        )


def _reason_kinds(reason: str) -> list[str]:
    """The reasons of one sample without what differs between samples: numbers, and the text after a colon."""
    return [without_numbers(part.partition(":")[0]) for part in reason.split("; ")]
