"""The versions, machine and git revision of the process that writes a report."""

import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stage.core.work import PACKAGES

ORCHESTRATION = ("prefect", "dvc")
GIB = 2**30


def installed_versions() -> dict[str, str]:
    """Python and every installed package that results depend on, with its version."""
    found = {"Python": platform.python_version()}
    for name in (*PACKAGES, *ORCHESTRATION):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_machine() -> dict[str, str]:
    """Operating system, processor, memory and accelerators."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return {
        "system": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "accelerators": _output("nvidia-smi", "-L") or "none",
    }


def revision() -> str:
    """The git revision of the working folder and the files that differ from it, or why there is none."""
    commit = _output("git", "rev-parse", "--verify", "HEAD")
    if not commit:
        return "under git, without a commit" if _output("git", "rev-parse", "--git-dir") else "not under git"
    changed = _output("git", "diff", "--name-only", "HEAD").splitlines()
    return f"{commit}, with changes in {', '.join(changed)}" if changed else commit


def sections(params: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Dumped parameters as text, by section and dotted name."""
    general = {name: value for name, value in params.items() if not isinstance(value, dict)}
    return {"general": _flat(general)} | {name: _flat(part) for name, part in params.items() if name not in general}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if value and isinstance(value, dict)
            else {prefix + name: json.dumps(value, ensure_ascii=False)}
        )
    return flat


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # empty when the command fails
