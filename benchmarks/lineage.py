"""How long `stage lineage` takes over many versions of made tables: as a command, the question alone, and pandas over the same tables.

Run it with `python -m benchmarks.lineage` from the project's root: 10 versions of 100,000 samples, or what two numbers say, in each of which a
tenth is made again. The tables are made as queries keep them, without pictures and DVC; so the time of the first query over a version, which
reads its shards, is not measured here. pandas reads the shards of every version as published, but without pictures, and also these tables.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from stage.datasets.pairs import ROW_GROUP
from stage.lineage.contents import Contents, keep_contents
from stage.lineage.extracts import STORE, empty_extracts, keep
from stage.lineage.folders import PublishedTable
from stage.lineage.versions import version_of
from stage.synthesis.schema import CHECKPOINT_SCHEMA, SCHEMA, SOURCE_SCHEMA

METHOD, CATEGORY, DEFECTS = "stage", "part", ("crack", "spot")
BACKGROUNDS, MASKS = 200, 40
SHARDS, SHARD_ROWS = Path("shards"), 512  # a folder per version; more rows a file than params.yaml has, so that pandas opens fewer files
PLAIN = pa.schema([one for one in SCHEMA if one.name not in ("image", "mask")])


def digest(text: str) -> str:
    """A digest, of nothing but a name."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def first(defect: str, count: int) -> dict[str, Any]:
    """The columns of a type's samples in the first version that are not the same in all of its rows."""
    random, places = np.random.default_rng(len(defect)), np.arange(count)
    backgrounds, masks = places * 7 % BACKGROUNDS, places * 3 % MASKS
    turns = random.integers(0, 360, count)
    return {
        "sample_id": [f"{METHOD}/{CATEGORY}/{defect}/{k:06d}/0" for k in places],
        "ordinal": places,
        "seed": random.integers(0, 2**63, count),
        "background_path": [f"part/good/{one}.png" for one in backgrounds],
        "background_sha256": _taken([digest(f"background {one}") for one in range(BACKGROUNDS)], backgrounds),
        "mask_path": [f"part/mask/{one}.png" for one in masks],
        "mask_sha256": _taken([digest(f"mask {one}") for one in range(MASKS)], masks),
        "mask_area": random.integers(10, 5000, count),
        "choices": [f'{{"rotation": {one}, "scale": 1.0}}' for one in turns],
        "contrast": random.random(count),
        "margin": random.random(count),
        "mask_digest": [digest(f"{defect} {k}") for k in places],
        "batch_key": [digest(f"{defect} {k // 8} 0")[:32] for k in places],
        "checkpoint": [digest("checkpoint 0")] * count,
        "image_digest": [digest(f"{defect} {k} 0") for k in places],
        "timesteps": [[999, 499]] * count,
    }


def samples(version: int, defect: str, count: int) -> pa.Table:
    """The samples of a type; one in ten is another one in each version, by another checkpoint."""
    told = {name: list(values) for name, values in first(defect, count).items()}
    for k in range(version % 10, count, 10) if version else ():
        told["batch_key"][k] = digest(f"{defect} {k // 8} {version}")[:32]
        told["image_digest"][k] = digest(f"{defect} {k} {version}")
        told["checkpoint"][k] = digest(f"checkpoint {version}")
    same = {"method": METHOD, "category": CATEGORY, "defect": defect, "verdict": "accepted", "base": digest("base"), "mask_kind": "real"}
    same |= {"code": digest("code"), "parameters": digest("parameters"), "versions": "torch 2.13.0+cpu, numpy 2.4.6", "device": "cpu"}
    blank = {"string": "", "int64": 0, "double": 0.0}
    columns = [pa.array(told[one.name], one.type) if one.name in told else None for one in PLAIN]
    filled = [
        pa.repeat(same.get(one.name, blank.get(str(one.type))), count) if column is None else column
        for one, column in zip(PLAIN, columns, strict=True)
    ]
    return pa.Table.from_arrays(filled, names=PLAIN.names).cast(PLAIN)


def _taken(some: list[str], places: np.ndarray) -> list[str]:
    return [some[place] for place in places]


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


def networks(version: int) -> pa.Table:
    """The adapters of a version and those of the first, which saw every photograph and mask, on a base from elsewhere."""
    told = {"kind": "adapters", "category": CATEGORY, "base": digest("base"), "facts": "{}", "sources": sources()["sha256"].to_pylist()}
    rows = [{"digest": digest(f"checkpoint {one}"), **told} for one in sorted({0, version})]
    return pa.Table.from_pylist(rows, schema=CHECKPOINT_SCHEMA)


def publish(version: int, count: int) -> None:
    """Keep a version's tables under its tag."""
    seal, each = digest(f"version {version}"), count // len(DEFECTS)
    tables = {
        "samples": pa.concat_tables([samples(version, defect, each) for defect in DEFECTS]),
        "sources": sources(),
        "checkpoints": networks(version),
    }
    entries = [PublishedTable(kind, CATEGORY, METHOD, keep(f"{kind}-{seal}.parquet", table)) for kind, table in tables.items()]
    entries.append(PublishedTable("catalog", CATEGORY, "", "catalog-empty.parquet"))
    manifest = {"category": CATEGORY, "method": METHOD, "digest": seal, "count": count, "accepted": count, "rejected": 0, "job": "made"}
    manifest |= {"inputs": {"seed": "0", "train": str(version)}, "rendering": [], "published": seal}
    keep_contents(Contents(version_of(f"v{version}"), entries, [manifest], []))
    publish_shards(tables["samples"], SHARDS / f"{version:04d}")


def publish_shards(table: pa.Table, folder: Path) -> None:
    """Write samples in files and row groups as small as those of shards."""
    folder.mkdir(parents=True)
    for start in range(0, len(table), SHARD_ROWS):
        pq.write_table(table.slice(start, SHARD_ROWS), folder / f"{start:08d}.parquet", row_group_size=ROW_GROUP, compression="zstd")


def make(versions: int, count: int) -> None:
    """A repository in the working folder, with a tag per version."""
    author = "git -c user.name=benchmark -c user.email=benchmark@localhost"
    subprocess.run("git init --quiet", shell=True, check=True)
    empty_extracts()
    for version in range(versions):
        subprocess.run(f"{author} commit --quiet --allow-empty -m {version} && git tag v{version}", shell=True, check=True)
        publish(version, count)


class Cost(NamedTuple):
    """Seconds on the clock, seconds of processor time, and the largest memory in MiB."""

    wall: float
    cpu: float
    peak: float


def command(*words: str) -> Cost:
    """What a command costs, process start included."""
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", ONCE, *words], check=True, capture_output=True, text=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu, float(done.stderr.split()[-1]) / 1024)


def alone(*words: str) -> Cost:
    """What the same question costs in a process that has asked it once, without the start of Python, its libraries and the tree of commands: the best of four."""
    done = subprocess.run([sys.executable, "-c", AGAIN, *words], check=True, capture_output=True, text=True)
    return Cost(*map(float, done.stdout.split()))


# The system's largest memory of a process begins with that of its parent; this is of the program alone.
ONCE = """
import atexit, sys
from stage.cli import main
def told():
    sys.stderr.write(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
atexit.register(told)
main()
"""
AGAIN = """
import contextlib, io, sys, time
from typer.main import get_command
from stage.cli import app
command = get_command(app)
told = []
for _ in range(5):
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        command.main(sys.argv[1:], standalone_mode=False)
    told.append((time.perf_counter() - wall, time.process_time() - cpu, 0))
print(*min(told[1:]))
"""


def by_pandas(source: str, count: int, samples_of: Sequence[Path], columns: list[str] | None) -> Cost:
    """What pandas takes for the counts that `down` shows: of which samples a background is part, by its networks or itself, in which versions.

    `samples_of`: each version's samples, a file or a folder of shards. It reads all of them, or these columns, one version in memory at a time.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    digests = {one for path in kept("sources") for table in [pd.read_parquet(path)] for one in table.sha256[table.path == source]}
    trained = {row.digest for path in kept("checkpoints") for row in pd.read_parquet(path).itertuples() if digests & set(row.sources)}
    touched: list[Any] = []
    for place, path in enumerate(samples_of):
        table: Any = pd.read_parquet(path, columns=columns)
        table["used_as"] = table.background_sha256.isin(digests) + 2 * (table.checkpoint.isin(trained) | table.base.isin(trained))
        touched.append(table.loc[table.used_as > 0, [*KEYS, "used_as"]].assign(versions=1 << place))
    found: Any = pd.concat(touched)
    by_sample = found.groupby([*KEYS, "used_as"])["versions"].sum().reset_index()
    counts = by_sample.groupby([*KEYS[1:], "used_as", "versions"]).size()
    assert counts.sum() == count
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, 0)


KEYS = ["sample_id", "method", "category", "defect", "verdict"]
NEEDED = [*KEYS, "background_sha256", "checkpoint", "base"]


def kept(kind: str) -> list[Path]:
    """The tables of a kind that queries keep."""
    return sorted(STORE.glob(f"{kind}-*.parquet"))


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
    shown = {"`stage --help`": (command("--help"), None)}
    shown |= {name: (command(*words), alone(*words)) for name, words in questions.items()}
    for name, (whole, part) in shown.items():
        table.add_row(name, _told(whole), _told(part) if part else "", f"{whole.peak:.0f}")
    for what, samples_of, tries in (("published", sorted(SHARDS.iterdir()), 1), ("kept", kept("samples"), 4)):
        for columns, of_which in ((None, "all columns"), (NEEDED, "those needed")):
            least = min(by_pandas(background, count, samples_of, columns) for _ in range(tries))
            table.add_row(f"as down, by pandas: {what} tables, {of_which}", "", _told(least), "")
    Console(width=130).print(f"{versions} versions of {count} samples, {os.cpu_count()} cores", table)


def _told(cost: Cost) -> str:
    return f"{cost.wall:.2f} ({cost.cpu:.2f})"


if __name__ == "__main__":
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))
        os.chdir(folder)
        sizes = [int(word) for word in sys.argv[1:3]] or [10, 100_000]
        make(*sizes)
        main(*sizes)
        os.chdir(home)
