"""Files that were published in the working tree and are not there: answers would be shorter, and nothing would say why."""

import re
from collections.abc import Iterable
from pathlib import Path

from stage.lineage.layout import TABLES
from stage.lineage.trees import DATA

LOCK = Path("dvc.lock")
# Of a DVC stage. To read the file as YAML would take every query of the working tree a twentieth of a second.
_OUTS = re.compile(r"^    outs:\n((?:    [- ] .*\n)+)", re.MULTILINE)


def missing_of(categories: Iterable[str]) -> list[str]:
    """The catalogs and scores of these categories that are, or lie in, an output of `dvc.lock`, and that are not there.

    Others were never made, as before a category's first evaluation.
    """
    outs = "".join(_OUTS.findall(LOCK.read_text(encoding="utf-8"))) if LOCK.is_file() else ""
    named = {*re.findall(r"path: (.+)", outs)}
    files = [Path(DATA, folder, category, name) for category in categories for folder, (depth, name, _) in TABLES.items() if depth == 2]
    return [str(file) for file in files if not file.is_file() and not named.isdisjoint(map(str, (file, *file.parents)))]
