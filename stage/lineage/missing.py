"""Files that were published in the working tree and are not there: answers would be shorter, and nothing would say why."""

import re
from collections.abc import Iterable
from pathlib import Path

from stage.lineage.layout import TABLES
from stage.lineage.trees import DATA

LOCK = Path("dvc.lock")


def missing_of(categories: Iterable[str]) -> list[str]:
    """The catalogs and scores of these categories that `dvc.lock` names, or a folder that they lie in, and that are not there.

    What it does not name was never made, as before the first evaluation.
    """
    named = {*re.findall(r"path: (.+)", LOCK.read_text(encoding="utf-8"))} if LOCK.is_file() else set()
    files = [Path(DATA, folder, category, name) for category in categories for folder, (depth, name, _) in TABLES.items() if depth == 2]
    return [str(file) for file in files if not file.is_file() and not named.isdisjoint(map(str, (file, *file.parents)))]
