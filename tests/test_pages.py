"""The links of the pages lead somewhere, on a fresh clone too."""

import re
import subprocess
from pathlib import Path

import pytest
from source_tree import ROOT

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [name for name in TRACKED if name.endswith(".md") and not name.startswith("tests/")]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)")  # a path, an anchor, or both; no address


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: Path, path: str, anchor: str) -> bool:
    target = (page.parent / path).resolve() if path else page
    name = target.relative_to(ROOT).as_posix()
    is_there = name in TRACKED or any(one.startswith(f"{name}/") for one in TRACKED)
    return not is_there or (bool(anchor) and anchor not in anchors(target))


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_tracked_file_and_a_heading(name: str) -> None:
    """A reader of a clone would not find what a page promises, such as a decision that was never committed."""
    page = ROOT / name
    found = LINK.findall(page.read_text(encoding="utf-8"))

    assert not [f"{path}#{anchor}" for path, anchor in found if is_broken(page, path, anchor)]
