"""Real defects and samples as rows of panels, one decoded at a time."""

from collections.abc import Iterator
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from pathlib import Path

import pyarrow.compute as pc

from stage.release.reader import shard_paths
from stage.report.artefacts import ImageCell, Row, among, catalog, decoded_picture, originals, stream_rows
from stage.report.sheets import Panel, Specimen, enlargement


def synthetic_specimens(
    data: Path, category: str, method: str, defect: str, count: int, *, verdict: str = "accepted"
) -> Iterator[Specimen]:
    """The first `count` samples of a defect type, by ordinal as published: background, synthetic image, and its defect and mask enlarged."""
    shards = shard_paths(data / "synthesize" / category / method)
    wanted = (pc.field("defect") == defect) & (pc.field("verdict") == verdict) & pc.field("image").is_valid()
    keys = nsmallest(count, stream_rows(shards, ["ordinal", "sample_id", "background_sha256"], wanted), key=itemgetter("ordinal"))
    backgrounds = originals(data, category, {key["background_sha256"] for key in keys})
    names = ["sample_id", "contrast", "reason", "background_sha256", "image", "mask"]
    for row in stream_rows(shards, names, among("sample_id", [key["sample_id"] for key in keys])):
        yield _synthetic(row, backgrounds.get(row["background_sha256"]))


def real_specimens(data: Path, category: str, defect: str, count: int) -> Iterator[Specimen]:
    """The first `count` real training images of a defect type: image, and its defect and mask enlarged."""
    wanted = (pc.field("defect") == defect) & (pc.field("split") == "train") & pc.field("mask").is_valid()
    yield from map(_real, islice(stream_rows([catalog(data, category)], ["image_path", "image", "mask"], wanted), count))


def _synthetic(row: Row, background: ImageCell | None) -> Specimen:
    first = [Panel("background", decoded_picture(background))] if background else []
    mask = decoded_picture(row["mask"])
    why = f", {row['reason']}" if row["reason"] else ""
    panels = (*first, *enlargement("synthetic", decoded_picture(row["image"]), mask))
    return Specimen(f"contrast {row['contrast']:.0f}{why}, {row['sample_id']}", panels, row["sample_id"])


def _real(row: Row) -> Specimen:
    mask = decoded_picture(row["mask"])
    return Specimen(row["image_path"], enlargement("real", decoded_picture(row["image"]), mask), row["image_path"])
