"""Whether DVC's cache and its remote hold every output. DVC 3.67 does not say so by itself.

If a full disk kept DVC from storing an output, it does not fail, and pushes the rest. A killed push leaves behind a list of some of the
outputs, from which every later push concludes that everything was pushed.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from stage.nights.programs import DVC, ProgramError, output_of

SHOWN = 5  # missing files in a message


def complete_cache(tree: Path, dvc: Callable[..., str]) -> None:
    """Put into DVC's cache the outputs that a run could not keep; `dvc` runs a DVC command in the working tree `tree`, with variables, and returns its output.

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


def complete_remote(tree: Path, dvc: Callable[..., str]) -> None:
    """Push the outputs; arguments as of `complete_cache`. Raises ProgramError if the remote does not hold all of them then."""
    with tempfile.TemporaryDirectory() as lists:
        dvc("push", DVC_SITE_CACHE_DIR=lists)
    # Without `--granular`, DVC takes a folder for whole once the remote has the list of its files.
    if missing := _status(tree, "not_in_remote", "--not-in-remote", "--granular"):
        more = f" and {len(missing) - SHOWN} more" * (len(missing) > SHOWN)
        raise ProgramError(
            f"Expected every output in DVC's remote after `dvc push`, found {', '.join(missing[:SHOWN])}{more} not there.\n"
            "A push that was killed may have left folders' lists of files without the files, and DVC takes such a folder for pushed. "
            "Delete those lists, the remote's files that end in .dir; the next night pushes what is missing."
        )


def _missing(tree: Path) -> list[str]:
    return _status(tree, "not_in_cache")


def _status(tree: Path, kind: str, *options: str) -> list[str]:
    return json.loads(output_of([*DVC, "data", "status", "--json", *options], tree)).get(kind, [])
