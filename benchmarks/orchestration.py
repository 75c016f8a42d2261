"""What Prefect and DVC cost: the demo's graph of eleven flows that do nothing, with our shared server and with Prefect's own.

Run it with `python benchmarks/orchestration.py` from the project's root, on a machine that does nothing else; about three minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

VERBS = {  # and their arguments
    "prepare": (),
    "pretrain": (),
    "train": ("category",),
    "synthesize": ("category", "method"),
    "segment": ("category",),
    "evaluate": (),
}
FLOW = """from pathlib import Path

from prefect import flow

from flows.runtime import run


@flow(name="{verb}")
def {verb}({arguments}) -> None:
    for folder in {folders}:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nothing").write_text("")


if __name__ == "__main__":
    run({verb})
"""


def main() -> None:
    """Measure three runs in a copy of the repository and print them with their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        prepare_copy(copy)
        shared_cold, shared = repro(copy), repro(copy, "--force")
        (copy / ".prefect/server.lock").unlink(missing_ok=True)
        (copy / ".prefect/server.lock").mkdir()  # no lock to be had: every flow starts a server of its own
        own, idle = repro(copy, "--force"), repro(copy)
    table = Table("dvc repro of eleven empty flows", "s", "ratio", title="Prefect and DVC")
    for name, seconds in (
        ("one server, new database", shared_cold),
        ("one server", shared),
        ("a server per flow", own),
        ("nothing changed", idle),
    ):
        table.add_row(name, f"{seconds:.1f}", f"{seconds / own:.2f}")
    Console().print(table)


def prepare_copy(copy: Path) -> None:
    """A checkout of the tree whose flows do nothing."""
    for name in subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines():
        if Path(name).is_file() and name != "dvc.lock":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, copy / name)
    for verb, names in VERBS.items():
        arguments = ", ".join(f"{name}: str" for name in names)
        place = f'Path("data/{verb}")'
        folders = f"[{' / '.join((place, *names))}]" if names else f'[{place} / name for name in ("fabric", "washer")]'
        (copy / f"flows/{verb}.py").write_text(FLOW.format(verb=verb, arguments=arguments, folders=folders))
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)


def repro(copy: Path, *options: str) -> float:
    """Seconds of one `dvc repro` there."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    started = time.monotonic()
    subprocess.run(["dvc", "repro", "--quiet", *options], cwd=copy, env=environment, check=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
