"""Note what stands outside the repository and decides results: the versions of packages, and a base given as a folder.

No Prefect flow: it runs with every `dvc repro`, and takes a moment. What it writes changes only when what it looks at does.
"""

import json
from importlib.metadata import version
from pathlib import Path

from stage.core.durable import write_whole
from stage.core.params import load_params
from stage.core.work import LIBRARIES, SEGMENTERS

OUTPUT = Path("data/environment")
TABLES = ("opencv-python", "pyarrow")


def packages() -> dict[str, str]:
    """The installed version of every package that results follow from."""
    return {name: version(name) for name in (*LIBRARIES, *SEGMENTERS, *TABLES)}


def base_files(source: str) -> dict[str, list[int]]:
    """Size and time of change of every file of a base given as a folder; nothing of a base from a hub or from scratch."""
    folder = Path(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def main() -> None:
    """Write both as JSON."""
    write_whole(json.dumps(packages(), indent=2) + "\n", OUTPUT / "packages.json")
    write_whole(json.dumps(base_files(load_params().base.source), indent=2) + "\n", OUTPUT / "base.json")


if __name__ == "__main__":
    main()
