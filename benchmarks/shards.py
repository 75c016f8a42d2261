"""What it costs to write and read samples, and to keep them with DVC: shards against `datasets`, webdataset and loose PNGs.

`python -m benchmarks.shards [samples|storage]`, both by default. A ratio over 1: slower than the shards. Wants a machine that does nothing else; about three minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import webdataset
from datasets import Dataset, Features, disable_progress_bars, load_dataset
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.published import BATCH, Rows, publish, rows_of
from stage.core.digests import file_digest
from stage.core.durable import sync
from stage.datasets.pairs import Pair
from stage.release.reader import read_samples
from stage.synthesis.schema import SCHEMA, SHARDS

PX, PHOTOGRAPHS, REPEATS = 256, 32, 7
SAMPLES = 128  # written and read


class Cost(NamedTuple):
    """Seconds on the clock, and of the processor."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Print a table for each part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["samples", "storage", "both"], nargs="?", default="both")
    parser.add_argument("--samples", type=int, default=20_000, help="how many are given to DVC")
    given = parser.parse_args()
    disable_progress_bars()
    datasets.config.HF_HUB_OFFLINE = True  # it would ask the hub about local files, too
    os.environ["DVC_NO_ANALYTICS"] = "1"
    if given.part != "samples":
        Console().print(storage(given.samples))
    if given.part != "storage":
        Console().print(samples())


def made_rows(count: int) -> Rows:
    """Samples of 256 px whose PNGs weigh about what photographs' do, no two of the same bytes."""
    random = np.random.default_rng(0)
    first = rows_of([_sample(random) for _ in range(PHOTOGRAPHS)])
    return [_renamed(first[k % PHOTOGRAPHS], k) for k in range(count)]


def samples() -> Table:
    """On one core, in turns: our shards, `datasets` on the same columns and the same Parquet, and webdataset's tar files."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    rows = made_rows(SAMPLES)
    table = Table("", "samples/s", "s / shards'", "CPU s / shards'", title=f"{SAMPLES} samples of {PX} px, one core")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        writers = {
            "written: shards, digested, on the disk": lambda: publish(rows, root / "shards"),
            "written: datasets": lambda: _write_datasets(rows, root / "datasets"),
            "written: webdataset": lambda: _write_webdataset(rows, root / "tar"),
            "written: webdataset, digested, on the disk": lambda: _write_webdataset(rows, root / "tar", is_safe=True),
        }
        readers = {
            "read: shards": lambda: _read_shards(root / "shards"),
            "read: datasets, streaming": lambda: _read_datasets(root / "shards"),
            "read: webdataset": lambda: _read_webdataset(root / "tar"),
        }
        for costs in (_in_turns(writers), _in_turns(readers)):
            ours = next(iter(costs.values()))
            for label, cost in costs.items():
                table.add_row(label, f"{SAMPLES / cost.wall_s:.0f}", f"{cost.wall_s / ours.wall_s:.2f}", f"{cost.cpu_s / ours.cpu_s:.2f}")
    return table


def storage(count: int) -> Table:
    """`dvc add`, `push` and `checkout` of shards, and of the same samples as PNG files with a table of their columns."""
    rows = made_rows(count)
    with tempfile.TemporaryDirectory() as name:
        shards = _dvc(Path(name) / "shards", lambda folder: publish(rows, folder))
        loose = _dvc(Path(name) / "loose", lambda folder: _write_loose(rows, folder))
    table = Table("dvc", "shards, s", "loose PNG, s", "ratio", title=f"{count} samples of {PX} px")
    for verb in shards:
        table.add_row(verb, f"{shards[verb]:.1f}", f"{loose[verb]:.1f}", f"{loose[verb] / shards[verb]:.1f}")
    table.add_row("all", f"{sum(shards.values()):.1f}", f"{sum(loose.values()):.1f}", f"{sum(loose.values()) / sum(shards.values()):.1f}")
    return table


def _in_turns(actions: dict[str, Callable[[], None]]) -> dict[str, Cost]:
    """Medians, the actions taken in turns, so that what slows the machine down for a while slows all of them down."""
    costs: dict[str, list[Cost]] = {name: [] for name in actions}
    for _ in range(REPEATS + 1):
        for name, act in actions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            act()
            costs[name].append(Cost(time.perf_counter() - wall, time.process_time() - cpu))
    # Without the first turn, which warms up.
    return {name: Cost(*(median(values) for values in zip(*found[1:], strict=True))) for name, found in costs.items()}


def _read_shards(folder: Path) -> None:
    for pair in read_samples(folder, accepted_only=False):
        assert pair.image.shape[:2] == pair.mask.shape


def _write_datasets(rows: Rows, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    Dataset.from_list(rows, features=Features.from_arrow_schema(SCHEMA)).to_parquet(folder / "samples.parquet", batch_size=BATCH)


def _read_datasets(folder: Path) -> None:
    for row in load_dataset("parquet", data_files=str(folder / SHARDS / "*.parquet"), split="train", streaming=True):
        assert np.asarray(row["image"]).shape[:2] == np.asarray(row["mask"]).shape


def _write_webdataset(rows: Rows, folder: Path, *, is_safe: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(folder / "samples.tar")) as tar:
        for row in rows:
            pixels = {f"{name}.png": row[name]["bytes"] for name in ("image", "mask")}
            tar.write({"__key__": row["sample_id"].replace("/", "-"), "json": _columns(row), **pixels})
    if is_safe:
        sync(folder / "samples.tar")
        file_digest(folder / "samples.tar")


def _read_webdataset(folder: Path) -> None:
    for row in webdataset.WebDataset(str(folder / "samples.tar"), shardshuffle=False).decode("rgb8"):
        assert row["image.png"].shape[:2] == row["mask.png"].shape[:2]
        assert row["json"]


def _write_loose(rows: Rows, folder: Path) -> None:
    for row in rows:
        for name in ("image", "mask"):
            path = folder / name / f"{row['sample_id']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row[name]["bytes"])
    (folder / "samples.jsonl").write_bytes(b"\n".join(_columns(row) for row in rows))


def _columns(row: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in row.items() if name not in ("image", "mask")}).encode()


def _dvc(root: Path, write: Callable[[Path], None]) -> dict[str, float]:
    """Seconds of each verb, in a project of its own with a folder as its remote."""
    write(root / "data")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(f"[core]\n    no_scm = true\n    remote = store\n['remote \"store\"']\n    url = {root}-store\n")
    seconds = {"add": _timed(root, "add", "-q", "data"), "push": _timed(root, "push", "-q")}
    shutil.rmtree(root / "data")
    return {**seconds, "checkout": _timed(root, "checkout", "-q")}


def _timed(root: Path, *arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, env=os.environ | {"DVC_SITE_CACHE_DIR": f"{root}-site"})
    return time.perf_counter() - start


def _sample(random: np.random.Generator) -> Pair:
    """Soft shapes under a little noise, as a camera sees them, and a round defect."""
    coarse = random.integers(40, 215, (8, 8, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((PX, PX), Image.Resampling.BICUBIC)).astype(np.int16)
    image = (soft + random.integers(-2, 3, (PX, PX, 1))).clip(0, 255).astype(np.uint8)
    y, x = np.mgrid[:PX, :PX]
    return Pair(image, ((y - 100) ** 2 + (x - 140) ** 2 < 30**2).astype(np.uint8))


def _renamed(row: dict[str, Any], ordinal: int) -> dict[str, Any]:
    """The same sample under another name, which its PNGs say too: a text chunk behind the header's 33 bytes."""
    text = b"tEXtNumber\0" + str(ordinal).encode()
    chunk = (len(text) - 4).to_bytes(4) + text + zlib.crc32(text).to_bytes(4)
    pixels = {name: {"bytes": row[name]["bytes"][:33] + chunk + row[name]["bytes"][33:], "path": None} for name in ("image", "mask")}
    return {**row, "ordinal": ordinal, "sample_id": f"stage/part/crack/{ordinal:06d}/0", **pixels}


if __name__ == "__main__":
    main()
