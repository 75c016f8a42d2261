"""How long `stage lineage` takes over many versions of made tables: as a command, the question alone, and pandas over the same tables.

Run it with `python -m benchmarks.lineage` from the project's root: 10 versions of 100,000 samples with bytes of 30 in place of each picture,
or what three numbers say, in each of which a tenth is made again, in a throwaway git and DVC repository. Making them takes some minutes, and
2 GB below the temporary folder.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from stage.core.digests import file_digest
from stage.datasets.table import FEATURES
from stage.lineage.extracts import STORE
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


class Cost(NamedTuple):
    """Seconds on the clock, seconds of processor time, and the largest memory in MiB."""

    wall: float
    cpu: float
    peak: float


def command(*words: str) -> Cost:
    """What a command costs, process start included."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "stage.cli", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"Expected `stage {' '.join(words)}` to end well, found status {status}.")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def alone(*words: str) -> Cost:
    """What the same question costs in a process that has asked it once: without the start of Python and its libraries."""
    done = subprocess.run([sys.executable, "-c", ASKED_TWICE, *words], check=True, capture_output=True, text=True)
    return Cost(*map(float, done.stdout.split()))


ASKED_TWICE = """
import sys, time, resource
from typer.testing import CliRunner
from stage.cli import app
for _ in range(2):
    wall, cpu = time.perf_counter(), time.process_time()
    done = CliRunner().invoke(app, sys.argv[1:])
    told = time.perf_counter() - wall, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert done.exit_code == 0, done.output
print(*told)
"""


def by_pandas(source: str) -> Cost:
    """What it costs to find the samples of a background with pandas, in all tables of samples, one in memory at a time."""
    wall, cpu = time.perf_counter(), time.process_time()
    tables = (pd.read_parquet(path) for path in sorted(STORE.glob("samples-*.parquet")))
    found = sum((table.background_path == source).sum() for table in tables)
    assert found
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(versions: int, count: int) -> None:
    """Print the table."""
    one, background, last = f"{METHOD}/{CATEGORY}/crack/000019/0", "part/good/7.png", f"v{versions - 1}"
    every = ("lineage", "sql", "--all", "SELECT version, count(*) FROM samples GROUP BY ALL")
    questions = {
        "up": ("lineage", "up", one, "--rev", last),
        "up --all": ("lineage", "up", one, "--all"),
        "down, all versions": ("lineage", "down", background),
        "down, of a mask": ("lineage", "down", "part/mask/7.png"),
        "recall --dry-run": ("recall", background, "--dry-run"),
        "diff": ("lineage", "diff", "v0", last),
        "why": ("lineage", "why", one, "v0", last),
        "reuse": ("lineage", "reuse", "--rev", last),
        "orphans": ("lineage", "orphans", "--rev", last),
        "sql --all": every,
    }
    table = Table("seconds (of processor time)", "command, process start included", "the question alone", "MiB")
    shown = {"versions read for the first time: sql --all": (command(*every), None), "`stage --help`": (command("--help"), None)}
    shown |= {name: (command(*words), alone(*words)) for name, words in questions.items()}
    for name, (whole, part) in shown.items():
        table.add_row(name, _told(whole), _told(part) if part else "", f"{whole.peak:.0f}")
    table.add_row("as down: pandas over all tables", "", _told(by_pandas(background)), "")
    Console(width=120).print(f"{versions} versions of {count} samples, {os.cpu_count()} cores", table)


def _told(cost: Cost) -> str:
    return f"{cost.wall:.2f} ({cost.cpu:.2f})"


if __name__ == "__main__":
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))
        os.chdir(folder)
        sizes = [int(word) for word in sys.argv[1:4]] or [10, 100_000, 30]
        make(*sizes)
        main(*sizes[:2])
        os.chdir(home)
