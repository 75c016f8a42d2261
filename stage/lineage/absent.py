"""Data of a version that are not there: files missing in the working tree, and commits whose data may have arrived since they were last read."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from stage.core.digests import digest_of
from stage.core.errors import ConfigError
from stage.lineage.layout import BESIDE, TABLES
from stage.lineage.trees import DATA

LOCK, MANIFEST = Path("dvc.lock"), "manifest.json"
SAMPLES = f"{DATA}/synthesize/"
# The outputs of a DVC stage. To read the file as YAML would take every query of the working tree a twentieth of a second.
_OUTS = re.compile(r"^    outs:\n((?:    [- ] .*\n)+)", re.MULTILINE)
KEPT_S = 3600  # an arrival in a remote is not seen from here, so a commit is tried again after this time
CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))


def missing_of(categories: Iterable[str]) -> list[str]:
    """What is missing although it is, or lies in, an output of `dvc.lock`: catalogs and scores of these categories, and methods' manifests.

    An answer without them would be shorter, and nothing would say why. Others were never made, as before a category's first evaluation.
    """
    outs = "".join(_OUTS.findall(LOCK.read_text(encoding="utf-8"))) if LOCK.is_file() else ""
    named = {*re.findall(r"path: (.+)", outs)}
    files = [Path(DATA, folder, category, name) for category in categories for folder, (depth, name, _) in TABLES.items() if depth == 2]
    missing = [str(file) for file in files if not file.is_file() and not named.isdisjoint(map(str, (file, *file.parents)))]
    folders = [Path(out) for out in sorted(named) if out.startswith(SAMPLES) and not Path(out, MANIFEST).is_file()]
    return [*missing, *(str(one / MANIFEST) for one in folders if _is_wanted(one))]


def _is_wanted(folder: Path) -> bool:
    """Whether `params.yaml` names the category and the method of a folder: `dvc.lock` keeps what a graph no longer has."""
    from stage.core.yaml_files import read_yaml  # here, because it loads ruamel, and seldom is anything missing

    try:
        params = read_yaml(Path("params.yaml"), "the parameters")
    except ConfigError:
        return True  # another message will name it
    category, method = folder.parts[2:4]
    return category in params["categories"] and method in params["methods"]


def may_have_arrived(cache: str, state: str, record: Path) -> bool:
    """Whether to try to read a commit again, which takes seconds: DVC's cache grew, its configuration or the known schema versions changed, or the record is old."""
    return state != state_of(cache) or time.time() - record.stat().st_mtime > KEPT_S


def state_of(cache: str) -> str:
    """A digest that changes if a file comes into DVC's cache, which has 256 folders."""
    folders = sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(cache)) if Path(cache).is_dir() else []
    return digest_of([folders, [path.stat().st_mtime_ns for path in CONFIGS if path.is_file()], sorted(BESIDE)])
