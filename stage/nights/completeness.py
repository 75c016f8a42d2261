"""Whether DVC's cache holds every output. DVC 3.67 does not fail if it could not keep one, on a full disk, and pushes the rest."""

import json
from collections.abc import Callable
from pathlib import Path

from stage.nights.programs import DVC, ProgramError, output_of


def complete_cache(tree: Path, dvc: Callable[..., str]) -> None:
    """Keep what a run could not keep; `dvc` runs a DVC command in the working tree `tree`, and returns its output.

    `dvc repro` would not do it: it finds the right outputs in the working tree, and skips the stage.
    Raises ProgramError if an output is still not whole in the cache.
    """
    if not _missing(tree):
        return
    told = dvc("commit", "--force")
    if missing := _missing(tree):
        errors = [line for line in told.splitlines() if line.startswith("ERROR")]
        raise ProgramError(
            f"Expected every output in DVC's cache, found {', '.join(missing)} not whole there. {' '.join(errors[:1])}\n"
            "Make room (`stage doctor` says where); the next night goes on."
        )


def _missing(tree: Path) -> list[str]:
    return json.loads(output_of([*DVC, "data", "status", "--json"], tree)).get("not_in_cache", [])
