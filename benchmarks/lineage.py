"""How long `stage lineage` takes over many versions of made tables, first and second query, against pandas over all columns of all shards.

Run it with `python -m benchmarks.lineage` from the project's root: 20 versions of 10,000 samples with pictures of 3,000 bytes, or what three
numbers say, in each of which a tenth is made again, in a throwaway git and DVC repository. Making them takes some minutes, and 1 GB below the
temporary folder.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from stage.core.digests import file_digest
from stage.datasets.table import FEATURES
from stage.release.shards import write_manifest, write_shards
from stage.synthesis.schema import CHECKPOINT_SCHEMA, CHECKPOINTS, PLAN, PLAN_SCHEMA, SCHEMA, SOURCE_SCHEMA, SOURCES

METHOD, CATEGORY, DEFECTS, SHARD_ROWS = "stage", "part", ("crack", "spot"), 500
BACKGROUNDS, MASKS = 200, 40
FOLDER = Path("data/synthesize") / CATEGORY / METHOD
GRAPH = "stages:\n  made:\n    cmd: 'true'\n    outs:\n      - data/synthesize\n      - data/prepare\n"


def digest(text: str) -> str:
    """A digest, of nothing but a name."""
    return hashlib.sha256(text.encode()).hexdigest()


def samples(version: int, defect: str, count: int, pngs: pa.Array) -> pa.Table:
    """The samples of a type; one in ten is another one in each version, by another checkpoint."""
    ordinals = range(count)
    made = [version if k % 10 == version % 10 else 0 for k in ordinals]
    backgrounds, masks = np.arange(count) * 7 % BACKGROUNDS, np.arange(count) * 3 % MASKS
    checkpoints = {one: digest(f"checkpoint {one}") for one in {0, version}}
    told: dict[str, list[object]] = {
        "sample_id": [f"{METHOD}/{CATEGORY}/{defect}/{k:06d}/0" for k in ordinals],
        "ordinal": [*ordinals],
        "background_path": [f"part/good/{one}.png" for one in backgrounds],
        "background_sha256": _taken([digest(f"background {one}") for one in range(BACKGROUNDS)], backgrounds),
        "mask_path": [f"part/mask/{one}.png" for one in masks],
        "mask_sha256": _taken([digest(f"mask {one}") for one in range(MASKS)], masks),
        "mask_digest": [digest(f"{defect} {k}") for k in ordinals],
        "batch_key": [digest(f"{defect} {k // 8} {one}")[:32] for k, one in zip(ordinals, made, strict=True)],
        "checkpoint": [checkpoints[one] for one in made],
        "image_digest": [digest(f"{defect} {k} {one}") for k, one in zip(ordinals, made, strict=True)],
        "timesteps": [[999, 499]] * count,
    }
    same = {"method": METHOD, "category": CATEGORY, "defect": defect, "verdict": "accepted", "base": digest("base")}
    pictures = pa.StructArray.from_arrays([pngs, pa.nulls(count, pa.string())], ["bytes", "path"])
    columns = {"image": pictures, "mask": pictures, **{name: pa.array(values) for name, values in told.items()}}
    columns |= {name: pa.repeat(value, count) for name, value in same.items()}
    blank = {"string": "", "int64": 0, "double": 0.0}
    return pa.table({one.name: columns.get(one.name, pa.repeat(blank.get(str(one.type)), count)) for one in SCHEMA}).cast(SCHEMA)


def _taken(some: list[str], places: np.ndarray) -> list[str]:
    return [some[place] for place in places]


def pictures_of(count: int, size: int, random: np.random.Generator) -> pa.Array:
    """Noise in place of PNGs, which no query reads."""
    kind = pa.binary(size)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(random.bytes(count * size))]).cast(pa.binary())


def sources() -> pa.Table:
    """Every photograph and mask."""
    common = {"image_digest": "", "category": CATEGORY, "split": "train", "group": "", "licence": "CC0-1.0"}
    rows = [
        common | {"path": f"part/{folder}/{number}.png", "sha256": digest(f"{kind} {number}"), "kind": what, "defect": defect, "role": kind}
        for kind, what, folder, defect, count in (
            ("background", "image", "good", "good", BACKGROUNDS),
            ("mask", "mask", "mask", "crack", MASKS),
        )
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=SOURCE_SCHEMA)


def publish(version: int, count: int, png_bytes: int) -> None:
    """Publish a version in the working tree."""
    random = np.random.default_rng(0)
    (FOLDER / "shards").mkdir(parents=True, exist_ok=True)

    each = count // len(DEFECTS)
    made = [samples(version, defect, each, pictures_of(each, png_bytes, random)) for defect in DEFECTS]
    shards = write_shards(made, SHARD_ROWS, FOLDER)
    known = sources()
    networks = [
        {
            "digest": digest(f"checkpoint {one}"),
            "kind": "adapters",
            "category": CATEGORY,
            "base": digest("base"),
            "facts": "{}",
            "sources": known["sha256"].to_pylist(),
        }
        for one in {0, version}
    ]
    written = {
        PLAN: pa.concat_tables(made).select(PLAN_SCHEMA.names).cast(PLAN_SCHEMA),
        SOURCES: known,
        CHECKPOINTS: pa.Table.from_pylist(networks, schema=CHECKPOINT_SCHEMA),
    }
    for name, table in written.items():
        pq.write_table(table, FOLDER / name, compression="zstd")
    told = {name: {"rows": len(table), "sha256": file_digest(FOLDER / name)} for name, table in written.items()}
    write_manifest(FOLDER, shards, method=METHOD, category=CATEGORY, job="made", inputs={"seed": "0", "train": str(version)}, tables=told)


def make(versions: int, count: int, png_bytes: int) -> None:
    """A repository in the working folder, with a tag per version."""
    Path("dvc.yaml").write_text(GRAPH)
    Path(".gitignore").write_text("/data/*/\n/.spool/\n")
    catalog = Path("data/prepare") / CATEGORY / "catalog.parquet"
    catalog.parent.mkdir(parents=True)
    pq.write_table(FEATURES.arrow_schema.empty_table(), catalog)
    subprocess.run("git init --quiet && python -m dvc init --quiet", shell=True, check=True)
    for version in range(versions):
        publish(version, count, png_bytes)
        name = "-c user.name=benchmark -c user.email=benchmark@localhost"
        command = f"python -m dvc commit --quiet --force && git add --all && git {name} commit --quiet -m {version} && git tag v{version}"
        subprocess.run(command, shell=True, check=True)
        print(f"version {version + 1} of {versions} made", file=sys.stderr)


def seconds(*command: str) -> tuple[float, int]:
    """How long a command takes, process start included, and the length of what it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, len(done.stdout)


def by_pandas(png_bytes: int) -> float:
    """The seconds to find the samples of one background with pandas, in every shard of DVC's cache, one in memory at a time."""
    start = time.perf_counter()
    shards = [path for path in Path(".dvc/cache").rglob("*") if path.is_file() and path.stat().st_size > SHARD_ROWS * png_bytes]
    found = sum((pd.read_parquet(path).background_sha256 == digest("background 7")).sum() for path in shards)
    assert found
    return time.perf_counter() - start


def main(versions: int, count: int, png_bytes: int) -> None:
    """Print the table."""
    one, background, last = f"{METHOD}/{CATEGORY}/crack/000019/0", "part/good/7.png", f"v{versions - 1}"
    queries = {
        "versions read for the first time: sql --all": ("sql", "--all", "SELECT version, count(*) FROM samples GROUP BY ALL"),
        "sql --all": ("sql", "--all", "SELECT version, count(*) FROM samples GROUP BY ALL"),
        "up": ("up", one, "--rev", last),
        "up --all": ("up", one, "--all"),
        "down, all versions": ("down", background),
        "diff": ("diff", "v0", last),
        "why": ("why", one, "v0", last),
        "reuse": ("reuse", "--rev", last),
        "orphans": ("orphans", "--rev", last),
    }
    verbs = {"recall --dry-run": ("recall", background, "--dry-run")}
    table = Table("query, process start included", "s")
    for name, words in queries.items():
        table.add_row(name, f"{seconds('stage.cli', 'lineage', *words, '--json')[0]:.1f}")
    for name, words in verbs.items():
        table.add_row(name, f"{seconds('stage.cli', *words, '--json')[0]:.1f}")
    table.add_row("`python -m stage.cli --help`", f"{seconds('stage.cli', '--help')[0]:.1f}")
    table.add_row("as down: pandas over every shard", f"{by_pandas(png_bytes):.1f}")
    Console(width=100).print(f"{versions} versions of {count} samples, {os.cpu_count()} cores", table)


if __name__ == "__main__":
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))
        os.chdir(folder)
        sizes = [int(word) for word in sys.argv[1:4]] or [20, 10_000, 3_000]
        make(*sizes)
        main(*sizes)
        os.chdir(home)
