"""`stage groups`: from photographs that look alike to a groups file that a person confirmed, on a small drawn folder."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import refused, run
from PIL import Image

from stage.core.params import load_params
from stage.core.settings import use_data
from stage.datasets.catalog import prepare
from stage.datasets.table import read_catalog

ROOT = Path(__file__).parents[1]
HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"
DRAFT = Path("build/groups/part/groups.csv")


def draw(root: Path, path: str, seed: int, light: float = 1.0) -> None:
    """A photograph of the part `seed`, brighter or darker; a mask beside it if it has a defect."""
    random = np.random.default_rng(seed)
    texture = np.kron(random.integers(40, 180, (8, 8)), np.ones((8, 8)))
    noise = np.random.default_rng(len(path) + seed).integers(0, 3, (64, 64))
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((light * texture + noise).astype(np.uint8)).save(root / path)
    if "/crack/" in path:
        mask = root / path.replace("/test/", "/ground_truth/").replace(".png", "_mask.png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 28)).save(mask)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on a data set in which crack/0 and crack/6 show one part, and so do good/1 and one of a hostile name."""
    root = tmp_path / "images"
    for number in range(12):
        draw(root, f"part/train/good/{number}.png", number)
    for number in range(6):
        draw(root, f"part/test/crack/{number}.png", 100 + number)
    draw(root, "part/test/crack/6.png", 100, light=1.3)
    draw(root, f"part/train/good/{HOSTILE}", 1, light=0.8)
    (tmp_path / "project").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    use_data(Path("params.yaml"), root, "mvtec", ["part"], "CC0-1.0")
    read()
    return root


def read() -> list[str]:
    """Prepare again; returns the warnings."""
    params = load_params()
    return prepare(params.prepare, params.categories, Path(params.prepare.source), Path("data/prepare")).warnings


def sides() -> dict[str, str]:
    catalog = read_catalog(Path("data/prepare/part/catalog.parquet")).set_index("image_path")
    return catalog["split"].to_dict()


def test_confirmed_candidates_decide_the_next_split(folder: Path) -> None:
    """One part would be trained on and tested on, although its user has said that it is one."""
    told = read()
    assert told[0].startswith("part: 4 photographs look like near-duplicates, in 2 clusters, 1 of them on both sides of the split")
    assert (sides()["part/test/crack/0.png"], sides()["part/test/crack/6.png"]) == ("train", "test")

    assert run("groups", "part").output.startswith("2 clusters of photographs that may show the same part, 1 on both sides of the split.")
    assert not (folder / "part/groups.csv").exists()
    read()
    assert (sides()["part/test/crack/0.png"], sides()["part/test/crack/6.png"]) == ("train", "test")  # looking changes nothing

    assert "has 2 more lines" in run("groups", "part", "--accept", "1").output
    assert (folder / "part/groups.csv").read_text() == (
        "file,group\npart/test/crack/0.png,part/test/crack/0.png\npart/test/crack/6.png,part/test/crack/0.png\n"
    )
    assert not [one for one in read() if "near-duplicates" in one]
    assert sides()["part/test/crack/0.png"] == sides()["part/test/crack/6.png"] == "train"
    assert run("groups", "part").output.startswith("1 cluster of")


def test_a_groups_file_is_extended_and_keeps_what_it_says(folder: Path) -> None:
    """Lines, columns and groups that a user wrote by hand would be lost."""
    (folder / "part/groups.csv").write_text("\ufefffile,when,group\ntest/crack/6.png,May,A\ngone.png,,Z\ntrain/good/3.png,June,B\n")
    run("groups", "part")
    gained = json.loads(run("groups", "part", "--accept", "all", "--json").output)

    assert gained["lines"] == 3
    assert (folder / "part/groups.csv").read_text().splitlines()[:5] == [
        *("file,when,group", "test/crack/6.png,May,A", "gone.png,,Z", "train/good/3.png,June,B", "part/test/crack/0.png,,A")
    ]


def test_two_groups_that_are_one_become_one(folder: Path) -> None:
    """The file would name two parts for one, and the split part them."""
    (folder / "part/groups.csv").write_text("file,group\ntest/crack/0.png,A\ntest/crack/6.png,B\ntest/crack/2.png,B\n")
    run("groups", "part")
    run("groups", "part", "--accept", "1")

    assert (folder / "part/groups.csv").read_text() == "file,group\ntest/crack/0.png,A\ntest/crack/6.png,A\ntest/crack/2.png,A\n"


def test_a_line_removed_from_the_draft_is_not_accepted(folder: Path) -> None:
    """A user could only take a cluster with the one photograph in it that does not belong."""
    run("groups", "part")
    DRAFT.write_text("".join(line for line in DRAFT.read_text().splitlines(keepends=True) if "crack/6" not in line))
    run("groups", "part", "--accept", "1")

    assert "crack/6" not in (folder / "part/groups.csv").read_text()


def test_names_are_text_on_the_page(folder: Path) -> None:
    """A file name could run a script in its reader's browser."""
    run("groups", "part")
    page = Path("build/groups/part/candidates.html").read_text()

    assert "onerror" in html.unescape(page)
    assert HOSTILE not in page
    assert {match.split(":")[0] for match in re.findall(r'<img src="([^"]*)"', page)} == {"data"}
    assert len(re.findall("<img ", page)) == 4


def test_candidates_for_machines_are_json(folder: Path) -> None:
    """A script could not read them."""
    found = json.loads(run("groups", "part", "--json").output)

    assert [(one["cluster"], one["straddles"], one["files"]) for one in found["clusters"]] == [
        (1, True, ["part/test/crack/0.png", "part/test/crack/6.png"]),
        (2, False, ["part/train/good/1.png", f"part/train/good/{HOSTILE}"]),
    ]
    assert folder.is_dir()


def test_without_candidates_nothing_is_left(folder: Path) -> None:
    """A user would see a traceback, or accept a draft that no longer holds."""
    run("groups", "part")
    for image in ("test/crack/6.png", f"train/good/{HOSTILE}"):
        (folder / "part" / image).unlink()
    read()

    assert run("groups", "part").output.startswith("No photographs of part look alike at a similarity of 0.6 or more")
    assert json.loads(run("groups", "part", "--json").output)["clusters"] == []
    assert not [path for path in Path("build").rglob("*") if path.is_file()]


def test_what_cannot_be_accepted_is_one_message(folder: Path) -> None:
    """A user would see a traceback, or believe that the split had changed."""
    assert refused("groups", "nut").startswith("Expected categories among part, found nut")
    assert refused("groups", "part", "--accept", "1").startswith(f"Expected a draft of groups at {DRAFT}, found none.")
    run("groups", "part")
    for wrong in ("3", "1,x", ",", "0"):
        assert refused("groups", "part", "--accept", wrong).startswith(f"Expected numbers of clusters in {DRAFT} after --accept")
    (folder / "part").chmod(0o555)
    assert refused("groups", "part", "--accept", "1").startswith(f"Expected a folder that may be written for {folder}/part/groups.csv")
    (folder / "part").chmod(0o755)
    assert not (folder / "part/groups.csv").exists()


def test_a_layout_without_a_groups_file_says_so(folder: Path) -> None:
    """The file would be written where nothing reads it."""
    page, text = Path("build/groups/part/candidates.html"), Path("params.yaml").read_text()
    assert '`stage groups "part" --accept 1,3`' in run("groups", "part").output
    assert "groups file" not in html.unescape(page.read_text())
    for change, first in (
        (('groups: "{category}/groups.csv"', 'groups: ""'), "No groups file is read: first set prepare.folder.groups in params.yaml"),
        (("layout: folder", "layout: demo"), "The demo is drawn anew each time and keeps no groups file: first draw it once"),
    ):
        Path("params.yaml").write_text(text.replace("layout: mvtec", "layout: folder").replace(*change))
        assert refused("groups", "part", "--accept", "1").startswith(f"Expected a groups file to write into, found none. {first}")
        told = run("groups", "part").output
        assert first in told
        assert "--accept" not in told
        assert first in html.unescape(page.read_text())
    assert not list(folder.rglob("groups.csv"))
