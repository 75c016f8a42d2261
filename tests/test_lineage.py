"""`stage lineage`: what made a sample, what came of a photograph, what changed; over versions of a real repository of git and DVC.

The oracle is pandas over the published shards themselves, copies of which lie beside the repository.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import dvc.api
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import refused
from commands import run as run_verb
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_factory import CATEGORY, build, small_params
from source_tree import ROOT
from versions_of_data import METHODS, METRIC, Project, ask, other_checkpoint, publish, shell, start, tag

import stage.lineage.touched
from stage.chaos.damage import flipped
from stage.cli.answers import print_answer
from stage.core.digests import file_digest, folder_digest
from stage.core.durable import read_sealed, write_sealed
from stage.datasets.catalog import prepare
from stage.lineage.causes import Changed, in_words
from stage.lineage.contents import history_of
from stage.lineage.database import opened, rows
from stage.lineage.lookup import PREPARED
from stage.lineage.unused import remove_extracts
from stage.lineage.versions import version_of
from stage.release.reader import read_manifest
from stage.release.shards import write_manifest, write_shards
from stage.synthesis.rows import TypeRecord
from stage.synthesis.schema import SCHEMA, SCHEMA_VERSION, VERDICT, VERDICT_SCHEMA


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """v1; v2 with another checkpoint and another rotation of `paste`; v3 with one photograph redrawn and two more samples of a type."""
    root = tmp_path_factory.mktemp("lineage")
    factory, made = build(root / "made"), Project(root / "project", root / "kept")
    start(made.root)
    tag(made, publish(factory, factory.params), "v1")
    paste = factory.params.paste.model_copy(update={"rotation": 90.0})
    factory = other_checkpoint(factory)._replace(params=factory.params.model_copy(update={"paste": paste}))
    tag(made, publish(factory, factory.params), "v2")
    photograph = root / "made" / "raw" / CATEGORY / "train" / "good" / "000.png"
    Image.fromarray(255 - np.array(Image.open(photograph))).save(photograph)
    prepare(factory.params.prepare, factory.params.categories, root / "made" / "raw", factory.data / "prepare")
    more = factory.params.synthesize.model_copy(update={"count": factory.params.synthesize.count + 2})
    tag(made, publish(factory, factory.params.model_copy(update={"synthesize": more})), "v3")
    return made


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, as the working folder; tests leave it as it is."""
    monkeypatch.chdir(project.root)
    return project


@pytest.fixture
def copy(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil."""
    shutil.copytree(project.root, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def fresh(copy: Path) -> Path:
    """A copy to spoil, of which nothing was asked yet."""
    shutil.rmtree(copy / ".spool", ignore_errors=True)
    return copy


def test_up_from_a_sample_names_all_that_made_it(here: Project) -> None:
    """An auditor would not learn which photographs, networks and settings are behind a picture."""
    sample = here.samples("v2", "stage").iloc[3]

    found = ask("up", sample.sample_id, "--rev", "v2")

    assert {row["role"]: (row["path"], row["split"]) for row in found["made_from"]} == {
        "background": (sample.background_path, "train"),
        "mask": (sample.mask_path, "train"),
    }
    assert {row["kind"]: row["digest"] for row in found["networks"]} == {"adapters": sample.checkpoint, "base": sample.base}
    catalog = pd.read_parquet(here.kept / "v2" / "prepare" / CATEGORY / "catalog.parquet")
    trained = catalog[(catalog.status == "accepted") & (catalog.split == "train")]
    assert {row["path"] for row in found["trained_on"] if row["network"] == "adapters"} == {
        *trained.image_path,
        *trained.mask_path.dropna(),
    }
    assert {"synthesize.steps", "method.alignment_threshold"} <= {row["name"] for row in found["parameters"]}
    assert found["code"][0]["code"] == sample.code
    assert [row["batch_key"] for row in found["run"]] == [sample.batch_key]


def test_up_tells_what_was_drawn_for_a_sample(here: Project) -> None:
    """A defect that was turned too far could not be told from one that was photographed so."""
    sample = here.samples("v2", "paste").iloc[3]

    found = ask("up", sample.sample_id, "--rev", "v2")

    told = {row["name"]: row["value"] for row in found["planned"]}
    assert {name: told[name] for name in ("mask_turn", "mask_shift_x", "foreground")} == {
        name: str(sample[name]) for name in ("mask_turn", "mask_shift_x", "foreground")
    }
    choices = json.loads(sample.choices)
    assert {name: told[name] for name in ("rotation", "scale", "blend")} == {
        name: str(choices[name]) for name in ("rotation", "scale", "blend")
    }
    decides = {row["name"]: row["decides"] for row in found["parameters"]}
    assert (decides["synthesize.count"], decides["paste.rotation"]) == ("plan", "rendering")


def test_up_says_which_versions_have_the_same_pixels(here: Project) -> None:
    """A sample that was made again would pass for the one that a model was trained on."""
    sample_id = here.samples("v1", "stage").iloc[0].sample_id
    digests = {version: here.samples(version).set_index("sample_id").image_digest[sample_id] for version in ("v1", "v2", "v3")}

    found = ask("up", sample_id, "--all")["sample"][0]

    assert found["versions"][:2] == ["workspace", "v3"]
    assert {*found["versions_with_other_pixels"]} == {version for version, digest in digests.items() if digest != digests["v3"]} != set()


def png_of(project: Project, version: str, sample_id: str, column: str) -> bytes:
    """A picture of a published sample."""
    shards = sorted((project.kept / version / "synthesize" / CATEGORY / sample_id.partition("/")[0] / "shards").iterdir())
    rows = pa.concat_tables(pq.read_table(path, columns=["sample_id", column]) for path in shards).to_pylist()
    return next(row[column]["bytes"] for row in rows if row["sample_id"] == sample_id)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_up_finds_a_sample_from_its_file_alone(here: Project, tmp_path: Path, column: str) -> None:
    """A picture that turns up in a mail could not be traced."""
    sample = here.samples("v1", "stage").iloc[2]
    (tmp_path / "0815.png").write_bytes(png_of(here, "v1", sample.sample_id, column))

    found = ask("up", str(tmp_path / "0815.png"), "--all")

    assert found["sample"][0]["sample_id"] == found["file"][0]["says"] == sample.sample_id
    assert found["file"][0]["pixels"] == "as published"
    if column == "image":  # v1's, where the pixels are these, and not the last version's; the mask is the same in all
        assert found["networks"][0]["digest"] == sample.checkpoint
        assert [row["path"] for row in found["made_from"] if row["role"] == "background"] == [sample.background_path]


def test_up_finds_a_file_that_has_lost_its_mark_and_says_where_pixels_differ(here: Project, tmp_path: Path) -> None:
    """A tool that strips metadata would hide a sample; another project's sample of the same id would pass for ours."""
    sample = here.samples("v3", "paste").iloc[2]
    with Image.open(io.BytesIO(png_of(here, "v3", sample.sample_id, "image"))) as picture:
        pixels, text = np.array(picture), PngInfo()
    text.add_text("Sample", sample.sample_id)
    Image.fromarray(pixels).save(tmp_path / "stripped.png")
    Image.fromarray(255 - pixels).save(tmp_path / "other.png", pnginfo=text)
    Image.fromarray(255 - pixels).save(tmp_path / "stranger.png")
    (tmp_path / "no.png").write_bytes(b"PNG")

    found = ask("up", str(tmp_path / "stripped.png"))
    assert (found["sample"][0]["sample_id"], found["file"][0]["says"]) == (sample.sample_id, "nothing")
    assert "or the sample of another data set" in ask("up", str(tmp_path / "other.png"))["file"][0]["pixels"]
    assert "no sample has its pixels" in refused("lineage", "up", str(tmp_path / "stranger.png"))
    assert "which does not decode" in refused("lineage", "up", str(tmp_path / "no.png"))


@pytest.mark.usefixtures("here")
def test_a_mark_cannot_command_a_terminal(tmp_path: Path) -> None:
    """A picture from elsewhere could hide what is said of it, or type for its reader."""
    mark = PngInfo()
    mark.add_text("Sample", "\x1b[2Kfine/\x07")
    Image.new("RGB", (8, 8)).save(tmp_path / "foreign.png", pnginfo=mark)

    assert "says that it is \\x1b[2Kfine/\\x07;" in refused("lineage", "up", str(tmp_path / "foreign.png"))


def test_up_from_a_metric_reaches_the_photographs(here: Project) -> None:
    """A number in a paper could not be traced to what it was measured with."""
    made = here.samples("v1", "stage").query("verdict == 'accepted'")

    found = ask("up", METRIC, "--rev", "v1")

    assert found["metric"][0]["value"] == 0.5
    assert (found["samples"][0]["method"], found["samples"][0]["accepted"]) == ("stage", len(made))
    counts = {
        role: {row["path"]: row["samples"] for row in found["every_photograph"] if row["role"] == role} for role in ("background", "mask")
    }
    assert counts == {"background": Counter(made.background_path), "mask": Counter(made.mask_path)}
    catalog = pd.read_parquet(here.kept / "v1" / "prepare" / CATEGORY / "catalog.parquet")
    tested = {row["path"] for row in found["every_photograph"] if row["role"] == "tested on"}
    assert tested == {*catalog[(catalog.status == "accepted") & (catalog.split == "test")].image_path}


def test_up_from_a_metric_with_few_defects_names_candidates(copy: Path) -> None:
    """All photographs of the third would pass for those that the segmenter saw, whereas it saw one of a type."""
    path = copy / "data" / "segment" / CATEGORY / "scores.parquet"
    scores = pd.read_parquet(path)
    pd.concat([scores, scores.assign(real_per_type=1)]).to_parquet(path, index=False)

    whole, few = (
        Counter(row["role"] for row in ask("up", name)["every_photograph"]) for name in (METRIC, METRIC.replace("stage/0", "stage:1/0"))
    )

    catalog = pd.read_parquet(copy / "data" / "prepare" / CATEGORY / "catalog.parquet")
    trained = catalog[(catalog.status == "accepted") & (catalog.split == "train")]
    assert whole["trained the segmenter"] == len(trained)
    assert few["trained the segmenter"] == (trained.defect == "good").sum()
    assert few["candidate to train the segmenter"] == (trained.defect != "good").sum()
    assert "are all that it drew from" in ask("up", METRIC.replace("stage/0", "stage:1/0"))["note"][0]["note"]
    defect = trained[trained.defect != "good"].image_path.iloc[0]
    told = {(row["arm"], row["real_per_type"]): row["touched_by"] for row in ask("down", defect, "--rev", "workspace")["evaluations"]}
    assert (told["real_only", 0], told["real_only", 1]) == (["trained on it"], ["perhaps trained on it"])


def test_up_from_a_metric_reaches_the_textures(copy: Path) -> None:
    """A picture without a licence would be behind a number, and nobody be told."""
    textures = [{"texture_path": "bank/a.png", "texture_sha256": "7" * 64}, {"texture_path": "", "texture_sha256": ""}]
    rows = republish(copy, "paste", lambda rows: [row | {"choices": json.dumps(textures[k % 2])} for k, row in enumerate(rows)])
    path = copy / "data" / "segment" / CATEGORY / "scores.parquet"
    scores = pd.read_parquet(path)
    digest = read_manifest(copy / "data" / "synthesize" / CATEGORY / "paste")["digest"]
    scores.loc[scores.arm == "real_and_paste", "samples"] = digest
    scores.to_parquet(path, index=False)

    found = ask("up", METRIC.replace("stage", "paste"))["every_photograph"]

    drawn = sum(row["verdict"] == "accepted" for row in rows[::2])
    assert [(row["path"], row["samples"]) for row in found if row["role"] == "texture"] == [("bank/a.png", drawn)]


def test_up_from_a_metric_of_a_mixture_reaches_every_method(here: Project) -> None:
    """The samples behind a number would be half told."""
    found = ask("up", METRIC.replace("stage", "mixture"), "--rev", "v1")

    assert {row["method"] for row in found["samples"]} == {*METHODS}
    made = sum(len(here.samples("v1", method).query("verdict == 'accepted'")) for method in METHODS)
    assert sum(row["samples"] for row in found["every_photograph"] if row["role"] == "background") == made


@pytest.mark.parametrize("as_numbers", [0, 64])  # as if there were many versions, and few
@pytest.mark.parametrize("column", ["background", "mask"])
def test_down_finds_every_sample_of_a_source_in_every_version(
    here: Project, column: str, as_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photograph that must go would stay in samples that nobody found."""
    monkeypatch.setattr(stage.lineage.touched, "AS_NUMBERS", as_numbers)
    path = here.samples("v1", "paste").iloc[0][f"{column}_path"]
    expected = {
        (row.sample_id, version)
        for version in ("v1", "v2", "v3")
        for row in here.samples(version).itertuples()
        if getattr(row, f"{column}_path") == path
    }

    found = ask("down", path)

    got = {(row["sample_id"], version) for row in found["every_sample"] if column in row["used_as"] for version in row["versions"]}
    assert {one for one in got if one[1] != "workspace"} == expected
    assert sum(row["samples"] for row in found["samples"]) == len(found["every_sample"])


def test_down_finds_what_a_photograph_trained(here: Project) -> None:
    """Samples of a network that saw it would stay, and so would the evaluations of them."""
    catalog = pd.read_parquet(here.kept / "v3" / "prepare" / CATEGORY / "catalog.parquet")
    photograph = catalog[(catalog.split == "train") & (catalog.defect != "good")].iloc[0]

    found = ask("down", photograph.image_sha256[:16], "--rev", "v3")

    assert {row["path"] for row in found["source"]} == {photograph.image_path, photograph.mask_path}
    assert {row["kind"] for row in found["networks"]} >= {"adapters"}
    by_network = {row["sample_id"] for row in found["every_sample"] if "adapters" in row["used_as"]}
    assert by_network == {*here.samples("v3", "stage").sample_id}
    assert {row["arm"]: row["touched_by"] for row in found["evaluations"]} == {
        "real_and_mixture": ["its samples", "trained on it"],
        "real_and_paste": ["its samples", "trained on it"],
        "real_and_stage": ["its samples", "trained on it"],
        "real_only": ["trained on it"],
    }


def test_a_metric_of_samples_that_were_made_again_since_is_traced_both_ways(copy: Path) -> None:
    """Metrics that still stand in the tables would be left out of a recall, and could not be traced."""
    metric, samples = METRIC.replace("stage", "paste"), pq.read_table(copy / "data/synthesize" / CATEGORY / "paste/shards").to_pylist()
    background = next(row["background_path"] for row in samples if row["verdict"] == "accepted")
    digest = read_manifest(copy / "data/synthesize" / CATEGORY / "paste")["digest"]
    republish(copy, "paste", lambda rows: [row for row in rows if row["background_path"] != background])

    found = [row for row in ask("down", background)["evaluations"] if row["arm"] == "real_and_paste"]

    assert [row["touched_by"] for row in found if "workspace" in row["versions"]] == [["its samples", "trained on it"]]
    assert [(row["version"], row["samples"]) for row in ask("up", metric, "--all")["metric"]] == [("v3", digest)]
    assert "in version workspace, found others. Run `dvc repro segment`, or name the version" in refused("lineage", "up", metric)


@pytest.mark.usefixtures("here")
def test_a_photograph_has_the_same_role_before_it_is_published_and_after() -> None:
    """The recall of a photograph before the first samples would name another role, or miss a mask."""
    with opened(history_of([version_of("v3")], strict=True)) as database:
        prepared, published = (
            rows(database, f'SELECT DISTINCT path, sha256, image_digest, kind, defect, "group", role FROM {one} ORDER BY ALL')
            for one in (PREPARED, "sources")
        )

    assert prepared == published
    assert {row["role"] for row in prepared} == {"background", "training", "mask", "test"}


def test_down_knows_a_file_by_its_bytes(here: Project, tmp_path: Path) -> None:
    """A photograph that someone sends back under another name could not be looked up."""
    background = here.samples("v1").iloc[0].background_path
    raw = here.root.parent / "made" / "raw" / background
    shutil.copy(raw, tmp_path / "returned.png")

    assert background in {row["path"] for row in ask("down", str(tmp_path / "returned.png"))["source"]} or background.endswith("000.png")


def changes(project: Project, before: str, after: str) -> pd.DataFrame:
    """What differs by the shards: a row per sample of either version."""
    first, second = (project.samples(version).set_index("sample_id") for version in (before, after))
    both = first.add_suffix("_a").join(second.add_suffix("_b"), how="outer")
    pixels = (both.image_digest_a != both.image_digest_b) | (both.mask_digest_a != both.mask_digest_b)
    both["change"] = np.select([both.method_a.isna(), both.method_b.isna(), pixels], ["added", "removed", "regenerated"], "kept")
    return both


def test_diff_names_checkpoint_and_parameter(here: Project) -> None:
    """A team would not know why a version is worse than the one before."""
    expected = changes(here, "v1", "v2").change.value_counts()

    found = ask("diff", "v1", "v2")

    counted = Counter(row["change"] for row in found["every_change"])
    assert (counted["regenerated"], counted["added"], counted["removed"]) == tuple(
        expected.get(name, 0) for name in ("regenerated", "added", "removed")
    )
    causes = {row["method"]: row["cause"] for row in found["changes"] if row["change"] == "regenerated"}
    assert causes == {"stage": "checkpoint", "paste": "parameter paste.rotation"}
    (rotation,) = (row for row in found["inputs"] if row["name"] == "paste.rotation")
    assert (rotation["method"], rotation["before"], rotation["after"]) == ("paste", json.dumps(small_params().paste.rotation), "90.0")


def test_diff_names_source_count_and_attempt(here: Project) -> None:
    """A photograph that was replaced would look like a change of nothing."""
    expected = changes(here, "v2", "v3")

    found = ask("diff", "v2", "v3")

    assert [row["path"] for row in found["sources"] if row["change"] == "other bytes"] == [f"{CATEGORY}/train/good/000.png"]
    by_sample = {row["sample_id"]: row for row in found["every_change"]}
    replaced = expected[(expected.change == "regenerated") & (expected.background_path_b == f"{CATEGORY}/train/good/000.png")]
    assert len(replaced)
    assert {tuple(by_sample[sample_id]["cause"]) for sample_id in replaced.index} == {("source",)}
    added = expected[expected.change == "added"]
    assert {sample_id for sample_id, row in by_sample.items() if row["change"] == "added"} == {*added.index}
    assert {row["cause"] for row in found["changes"] if row["change"] == "added"} <= {"parameter synthesize.count", "attempt"}


def test_diff_draws_before_and_after(here: Project, tmp_path: Path) -> None:
    """One would have to check out two versions to see what changed."""
    for name, sides in (("there", ("v1", "v2")), ("back", ("v2", "v1"))):
        assert run_verb("lineage", "diff", *sides, "--sheet", str(tmp_path / f"{name}.png"), "--count", "2").exit_code == 0

    there, back = (np.array(Image.open(tmp_path / f"{name}.png")) for name in ("there", "back"))
    assert there.shape == back.shape
    assert (there != back).any()
    assert "found none between v1 and v1" in refused("lineage", "diff", "v1", "v1", "--sheet", str(tmp_path / "none.png"))


def test_why_shows_both_sides(here: Project) -> None:
    """A single sample that came out otherwise could not be explained."""
    sample_id = changes(here, "v1", "v2").query("change == 'regenerated' and method_a == 'paste'").index[0]
    first, second = (here.samples(version).set_index("sample_id").loc[sample_id] for version in ("v1", "v2"))

    found = ask("why", sample_id, "v1", "v2")

    assert found["sample"][0]["cause"] == "parameter paste.rotation"
    told = {row["column"]: (row["before"], row["after"]) for row in found["columns"]}
    assert told["choices"] == (first.choices, second.choices)
    assert told["image_digest"] == (first.image_digest, second.image_digest)
    assert "seed" not in told


def test_reuse_counts_every_source(here: Project) -> None:
    """A mask in half of all samples would teach a segmenter one shape, and nobody would notice."""
    samples = here.samples("v2", "paste")
    backgrounds = Counter(samples.background_path)
    catalog = pd.read_parquet(here.kept / "v2" / "prepare" / CATEGORY / "catalog.parquet")
    known = int(((catalog.split == "train") & (catalog.defect == "good") & (catalog.status == "accepted")).sum())

    found = ask("reuse", "--rev", "v2", "--count", "1")

    use = next(row for row in found["use"] if (row["method"], row["role"]) == ("paste", "background"))
    assert (use["samples"], use["sources"], use["used"], use["most_used"]) == (
        len(samples),
        known,
        len(backgrounds),
        max(backgrounds.values()),
    )
    assert use["times_even"] == round(max(backgrounds.values()) * known / len(samples), 2)
    most = next(row for row in found["most_used"] if (row["method"], row["role"]) == ("paste", "background"))
    assert most["uses"] == backgrounds[most["path"]] == max(backgrounds.values())


def recatalog(root: Path, change: Any) -> None:
    """Write the working tree's catalog again, row by row; a row that becomes None is left out."""
    path = root / "data" / "prepare" / CATEGORY / "catalog.parquet"
    table = pq.read_table(path)
    kept = [row for one in table.to_pylist() if (row := change(one)) is not None]
    pq.write_table(pa.Table.from_pylist(kept, schema=table.schema), path)


def test_leakage_finds_a_group_that_is_tested(copy: Path, project: Project) -> None:
    """A groups file that was confirmed later would change no answer."""
    background = project.samples("v3", "stage").iloc[0].background_path
    assert ask("leakage", "--rev", "v3")["leaks"] == []
    is_tested = [
        row["image_path"] for row in pq.read_table(copy / f"data/prepare/{CATEGORY}/catalog.parquet").to_pylist() if row["split"] == "test"
    ]
    recatalog(copy, lambda row: {**row, "group": "plate 7"} if row["image_path"] in (is_tested[0], background) else row)

    found = ask("leakage", status=1)["leaks"]

    assert {row["evaluated"] for row in found} == {is_tested[0]}
    assert any(row["role"].startswith("the background of") and row["role"].endswith(f"{CATEGORY}/stage") for row in found)


def test_orphans_are_samples_without_their_photograph(copy: Path, project: Project) -> None:
    """Samples of a photograph that was withdrawn would stay in the data set unnoticed."""
    samples = project.samples("v3")
    background = samples.iloc[0].background_path
    recatalog(copy, lambda row: None if row["image_path"] == background else row)

    found = ask("orphans", "--rev", "v3", "--catalog", "workspace")["samples_without_a_source"]

    assert sum(row["samples"] for row in found) == (samples.background_path == background).sum()
    assert {(row["path"], row["why"]) for row in found} == {(background, "not in the catalog")}
    assert ask("orphans", "--rev", "v3") == {"samples_without_a_source": [], "batches_and_runs": []}


def test_sql_reads_the_views(here: Project) -> None:
    """A question that nobody foresaw could not be asked."""
    found = ask("sql", "--all", "SELECT version, count(*) AS samples FROM samples GROUP BY ALL ORDER BY version")["rows"]

    counts = {row["version"]: row["samples"] for row in found}
    assert counts == {version: len(here.samples(version)) for version in ("v1", "v2", "v3")} | {"workspace": len(here.samples("v3"))}


@pytest.mark.usefixtures("here")
def test_sql_s_answer_is_json_whatever_is_asked() -> None:
    """A program that reads the answer would fail at a metric that is not a number, and a map by dates end in a traceback."""
    done = run_verb("lineage", "sql", "SELECT MAP {DATE '2020-01-01': 1} AS map, 'nan'::DOUBLE AS a, ['-inf'::FLOAT, 1] AS b", "--json")

    assert json.loads(done.stdout, parse_constant=pytest.fail)["rows"] == [{"map": {"2020-01-01": 1}, "a": None, "b": [None, 1.0]}]


def test_sql_needs_no_proc(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, no query could be asked."""
    monkeypatch.setattr("stage.lineage.sql.STATUS", Path("/no/such/status"))

    assert ask("sql", "SELECT 1 AS one")["rows"] == [{"one": 1}]


def test_the_page_names_every_view(here: Project) -> None:
    """Whoever asks would not know what there is."""
    found = ask("sql", "--all", "SELECT table_name FROM information_schema.tables WHERE table_type = 'VIEW'")["rows"]
    views = {row["table_name"] for row in found if not row["table_name"].endswith("_extracts")}  # those are what the views read
    page = (ROOT / "docs/lineage.md").read_text(encoding="utf-8")
    named = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}

    assert {"samples", "missed_defects"} <= views
    assert views - named == set()


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO 'stolen.csv'",
        "COPY (SELECT 1) TO '{extract}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{extract}' (USE_TMP_FILE false)",
        "CREATE TABLE more AS SELECT 1",
        "WITH stolen AS (COPY (SELECT 1) TO '{extract}' (USE_TMP_FILE false)) SELECT * FROM stolen",
        "WITH gone AS (DELETE FROM versions RETURNING *) SELECT * FROM gone",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('params.yaml')",
        "SELECT * FROM 'data/prepare/part/catalog.parquet'",
        "SELECT * FROM glob('*')",
        "SELECT * FROM history",
        "SELECT list(r) FROM range(300_000_000) t(r)",
        "SELECT length(repeat(chr(120), 3_000_000_000))",
        "SELECT repeat(chr(1), 500_000_000)",
        "SELECT INTERVAL 10000000 YEAR",
        "SELEC 1",
        "",
    ],
)
def test_sql_neither_writes_nor_reads_other_files(here: Project, query: str) -> None:
    """A query from a chat would read secrets, or change what later answers say."""
    ask("sql", "SELECT 1")
    store = here.root / ".spool" / "lineage"
    extract = next(store.rglob("samples-*.parquet")).relative_to(here.root)
    before = folder_digest(store), sorted(path.name for path in here.root.iterdir())

    told = refused("lineage", "sql", query.format(extract=extract))
    assert told.startswith("Expected ")
    assert "found: Expected" not in told
    if query.startswith("COPY"):  # as in docs/lineage.md
        assert told.strip() == "Expected one SELECT, found COPY. The tables can be read and nothing else; docs/lineage.md lists them."
    assert (folder_digest(store), sorted(path.name for path in here.root.iterdir())) == before


@pytest.mark.usefixtures("here")
def test_a_query_without_end_is_ended_by_ctrl_c() -> None:
    """It would keep a processor busy until somebody looks for its process."""
    endless = "WITH RECURSIVE t(n) AS (SELECT 0::HUGEINT UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"
    code = f"from stage.lineage.sql import sql; import duckdb; print('begins', flush=True); sql(duckdb.connect(), {endless!r}, 1)"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        began = psutil.Process(process.pid).cpu_times().user
        while psutil.Process(process.pid).cpu_times().user < began + 1:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()  # so that a failure does not leave it
    assert process.returncode == -signal.SIGINT


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("up", f"stage/{CATEGORY}/crack/000000/0", "--rev", "v9"), r"found 'v9', which git does not know. Tags: v1, v2, v3."),
        (("up", f"stage/{CATEGORY}/crack/009999/0"), f"as stage/{CATEGORY}/crack/000000/0 to "),
        (("up", "nothing"), "found 'nothing'"),
        (("up", f"{CATEGORY}/segformer/real_only/0/ap"), "segmenter: efficientnet_lite0"),
        (("up", METRIC.replace(CATEGORY, "(average)")), f"Here these are: {METRIC}."),
        (("up", f"{CATEGORY}/stage/kid"), "for fidelity for a sample of the method"),
        (("down", "nowhere.png"), "which none of them knows"),
        (("down", ""), "found an empty text"),
        (("down", "\udcff"), "which none of them knows"),
        (("sql", "SELECT '\udcff' +"), "a query that DuckDB can run"),
        (("why", f"stage/{CATEGORY}/crack/009999/0", "v1", "v2"), "found none called"),
        (("reuse", "--rev", "v1", "--all"), "Expected --rev or --all, found both"),
    ],
)
def test_what_does_not_exist_is_named(words: tuple[str, ...], told: str) -> None:
    """A typing error would end in a traceback, or in an empty answer that passes for a clean bill."""
    assert told in refused("lineage", *words)


def test_versions_are_read_from_a_remote(fresh: Path) -> None:
    """A colleague's clone without the data could answer nothing."""
    shutil.move(fresh / ".dvc" / "cache", fresh.parent / "remote")
    (fresh / ".dvc" / "config.local").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {fresh.parent / 'remote'}\n")
    shutil.rmtree(fresh / "data")

    assert ask("sql", "--rev", "v1", "SELECT count(*) AS samples FROM samples")["rows"][0]["samples"]


def test_a_version_is_read_from_a_remote_that_came_after_it(fresh: Path) -> None:
    """Old versions would count as lost for whoever moved the data to another store."""
    shutil.move(fresh / ".dvc" / "cache", fresh.parent / "later")
    (fresh / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../../later\n")

    assert ask("sql", "--rev", "v1", "SELECT count(*) AS samples FROM samples")["rows"][0]["samples"]


def test_a_version_that_lies_nowhere_is_named(fresh: Path, project: Project) -> None:
    """Samples of a version that could not be read would pass for clean."""
    shutil.rmtree(fresh / ".dvc" / "cache")

    assert "Expected data/synthesize of version v1 in DVC's cache or a remote" in refused("lineage", "reuse", "--rev", "v1")
    found = ask("down", project.samples("v3").iloc[0].background_path)
    assert next(iter(found)) == "not_read"  # it qualifies all that follows
    assert {row["version"] for row in found["not_read"]} == {"v1", "v2", "v3"}
    assert {version for row in found["every_sample"] for version in row["versions"]} == {"workspace"}


def test_a_version_that_cannot_be_read_is_tried_again_only_when_its_data_may_be_there(fresh: Path) -> None:
    """Each question would take seconds for every version whose data are gone; or a version that was fetched would stay unread."""
    cache, query = fresh / ".dvc" / "cache", ["lineage", "sql", "--all", "SELECT count(*) FROM samples"]
    cache.rename(fresh / "away")
    assert {row["version"] for row in ask(*query[1:])["not_read"]} == {"v1", "v2", "v3"}
    code = f"import sys; from typer.testing import CliRunner; from stage.cli import app; CliRunner().invoke(app, {query}); print('dvc' in sys.modules)"

    assert shell(fresh, f'python -c "{code}"') == "False\n"
    shutil.rmtree(cache, ignore_errors=True)
    (fresh / "away").rename(cache)
    assert "not_read" not in ask(*query[1:])


def test_an_unknown_schema_is_named(copy: Path) -> None:
    """Columns of another meaning would be read as today's."""
    manifest = copy / "data" / "synthesize" / CATEGORY / "stage" / "manifest.json"
    told = read_sealed(manifest)
    write_sealed({name: value for name, value in told.items() if name != "seal"} | {"schema_version": "4"}, manifest)

    assert refused("lineage", "reuse").startswith(f"Expected schema version 1 or 2 or {SCHEMA_VERSION}, found '4'")


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("name", ["shards/*.parquet", "sources.parquet", "plan.parquet", "manifest.json"])
def test_a_damaged_table_is_named(fresh: Path, name: str, is_known: bool) -> None:
    """An answer would be given from half a table, or a traceback; or from the extracts, as if nothing had happened to the data."""
    path = next((fresh / "data" / "synthesize" / CATEGORY / "paste").glob(name))
    if is_known:
        ask("reuse")
        path.touch()
        assert ask("reuse")["use"]
    path.write_bytes(flipped(path.read_bytes(), 8 * path.stat().st_size - 400))

    told = refused("lineage", "reuse")
    assert told.startswith("Expected ")
    assert f"synthesize/{CATEGORY}/paste" in told


def test_a_damaged_table_is_named_if_an_earlier_publication_had_the_same(fresh: Path) -> None:
    """It would be noted as compared without having been opened, and pass for published ever after."""
    ask("reuse")
    for extract in [*Path(".spool/lineage").glob("*/samples-*"), *Path(".spool/lineage").glob("*/seen-*")]:
        extract.unlink()
    path = fresh / "data" / "synthesize" / CATEGORY / "paste" / "sources.parquet"
    path.write_bytes(flipped(path.read_bytes(), 800))

    for _ in range(2):
        assert f"synthesize/{CATEGORY}/paste/sources.parquet" in refused("lineage", "reuse")


def test_a_question_that_can_note_nothing_is_answered(fresh: Path) -> None:
    """Whoever may read the spool and not write it, or whose disk is full, would get a traceback."""
    ask("reuse")
    for note in [*Path(".spool/lineage").glob("*/seen-*")]:
        note.unlink()
        note.mkdir()  # which no file replaces, even for root

    assert ask("reuse")["use"]


def test_a_damaged_extract_is_named(copy: Path) -> None:
    """After a full disk, every question would end in a traceback."""
    ask("reuse")
    for extract in (copy / ".spool" / "lineage").rglob("samples-*.parquet"):
        extract.write_bytes(extract.read_bytes()[:-100])

    assert "Delete that folder and ask again." in refused("lineage", "reuse")


def test_extracts_of_versions_that_are_gone_are_collected_and_no_others(fresh: Path) -> None:
    """The spool would grow with every version, and with every change of the working tree."""
    kept = Path(".spool/lineage")
    ask("sql", *(f"--rev={name}" for name in ("v2", "v3", "workspace")), "SELECT 1")
    wanted = {path.name for path in kept.glob("*/*")}
    shutil.rmtree(kept)
    ask("sql", "--all", "SELECT 1")
    (kept / "2").mkdir()
    (kept / "2" / "samples-0.parquet").write_bytes(b"12345")
    for path in kept.glob("*/*"):
        os.utime(path, (0, 0))
    assert [(one.path, one.size) for one in remove_extracts(dry_run=True)] == [(kept / "2", 5)]

    shell(fresh, "git tag --delete v1")
    assert remove_extracts(dry_run=False)

    assert {path.name for path in kept.glob("*/*")} == wanted
    assert remove_extracts(dry_run=True) == []


def test_a_half_finished_run_can_be_asked(copy: Path) -> None:
    """While a night's run goes on, or after it was killed, nothing could be asked of what is there."""
    home = copy / "data" / "synthesize" / CATEGORY
    shutil.copytree(home / "paste" / "shards", home / ".paste.arriving" / "shards")
    for gone in (home / "paste", copy / "data" / "runs", copy / "data" / "segment"):
        shutil.rmtree(gone)

    assert {row["method"] for row in ask("reuse")["use"]} == {"stage"}
    assert "There is no evaluation at all." in refused("lineage", "up", METRIC)
    assert {row["what"] for row in ask("orphans")["batches_and_runs"]} == {"a batch without a run"}


def test_what_is_missing_is_named(copy: Path) -> None:
    """An answer without half of the samples, or without any evaluation, would pass for the whole."""
    for file in (f"segment/{CATEGORY}/scores.parquet", f"prepare/{CATEGORY}/catalog.parquet"):
        (copy / "data" / file).unlink()
        assert f"data/{file}" in ask("reuse")["not_read"][0]["why"]
    lock = (copy / "dvc.lock").read_text()
    (copy / "dvc.lock").write_text(
        lock.replace("- path: data/segment", "- path: data/other").replace("    outs:", "    deps:\n    - path: data/segment\n    outs:")
    )
    assert "data/segment" not in ask("reuse")["not_read"][0]["why"]  # never made, although `evaluate` depends on the whole folder

    made = "".join(f"    - path: data/synthesize/{CATEGORY}/{method}\n      md5: 1.dir\n" for method in (*METHODS, "quilt"))
    (copy / "dvc.lock").write_text(f"{lock}  synthesize:\n    cmd: 'true'\n    outs:\n{made}")
    (copy / "params.yaml").write_text(f"categories: [{CATEGORY}]\nmethods: [stage, paste]\n")  # quilt was removed from it
    shutil.rmtree(copy / "data" / "synthesize" / CATEGORY / "stage")
    assert ask("reuse")["not_read"][0]["why"].count("data/synthesize") == 1
    assert f"data/synthesize/{CATEGORY}/stage/manifest.json" in ask("reuse")["not_read"][0]["why"]

    (copy / "data" / "synthesize" / CATEGORY / "paste" / "manifest.json").unlink()
    assert f"Expected data/synthesize/{CATEGORY}/paste/manifest.json" in refused("lineage", "reuse")


def test_dvc_s_own_interface_reads_the_tables(here: Project) -> None:
    """Whoever has DVC and not this project could read nothing."""
    for table in ("plan", "sources", "checkpoints", "verdict"):
        path = f"synthesize/{CATEGORY}/paste/{table}.parquet"
        with dvc.api.open(f"data/{path}", rev="v1", mode="rb") as file:
            assert pq.read_table(io.BytesIO(file.read())).equals(pq.read_table(here.kept / "v1" / path))


def test_outside_of_git_the_working_tree_can_be_asked(copy: Path) -> None:
    """A data set that was copied without its history could not be asked at all."""
    shutil.rmtree(copy / ".git")

    assert ask("reuse")["use"]
    assert refused("lineage", "reuse", "--rev", "v1").startswith("Expected a git checkout in")


def test_queries_change_nothing(here: Project) -> None:
    """Asking about an old version would check it out over the work at hand."""
    before = folder_digest(here.root / "data"), shell(here.root, "git rev-parse HEAD && git status --porcelain")

    ask("diff", "v1", "v3")

    assert (folder_digest(here.root / "data"), shell(here.root, "git rev-parse HEAD && git status --porcelain")) == before


QUERY = ["lineage", "sql", "--all", "SELECT count(*) FROM samples"]
SLOW = ("torch", "dvc", "datasets")
TABLES = ("pandas", "pyarrow", "numpy", "ruamel")  # which only a query that is not ours needs, and who records a recall


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (QUERY, SLOW),
        (["lineage", "up", METRIC, "--all"], SLOW + TABLES),
        (["lineage", "diff", "v1", "v3"], SLOW + TABLES),
        (["recall", f"{CATEGORY}/train/good/000.png", "--dry-run"], SLOW + TABLES),
    ],
)
def test_a_second_question_loads_only_what_it_needs(here: Project, words: list[str], unused: tuple[str, ...]) -> None:
    """Every question would take seconds, most of them for nothing."""
    ask("sql", "--all", "SELECT 1")
    code = (
        "import sys; from typer.testing import CliRunner; from stage.cli import app; "
        f"done = CliRunner().invoke(app, {words}); print(done.exit_code, *{{*{unused}}} & {{*sys.modules}})"
    )

    assert shell(here.root, f'python -c "{code}"') == "0\n"


def test_a_question_of_ours_reaches_its_extracts_and_no_other_file(here: Project) -> None:
    """What data are called is never part of a query; were it, it could read secrets."""
    with opened(history_of([version_of("v1")], strict=True)) as database:
        assert rows(database, "SELECT count(*) AS samples FROM samples") == [{"samples": len(here.samples("v1"))}]
        for query in (
            "FROM read_text('params.yaml')",
            "FROM read_parquet('data/prepare/*/catalog.parquet')",
            "COPY samples TO 'stolen.csv'",
        ):
            with pytest.raises(duckdb.PermissionException):
                database.execute(query)
        with pytest.raises(duckdb.InvalidInputException):
            database.execute("SET allowed_paths = ['params.yaml']")


def republish(
    root: Path, method: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], **inputs: str
) -> list[dict[str, Any]]:
    """Publish the samples of `paste` in the working tree as `method`, with changed rows and more `inputs`; returns the rows."""
    home = root / "data" / "synthesize" / CATEGORY
    rows, told = change(pq.read_table(home / "paste" / "shards").to_pylist()), read_manifest(home / "paste")
    shutil.copytree(home / "paste", new := home / ".new", ignore=shutil.ignore_patterns("shards"))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table.select(pq.read_schema(new / "plan.parquet").names), new / "plan.parquet")
    tables = {name: entry | {"sha256": file_digest(new / name)} for name, entry in told["tables"].items()}
    write_manifest(
        new, write_shards([table], 5, new), method=method, category=CATEGORY, job="none", inputs=told["inputs"] | inputs, tables=tables
    )
    shutil.rmtree(home / method, ignore_errors=True)
    new.rename(home / method)
    return rows


def test_sql_reads_the_calibration_of_the_verdict(copy: Path) -> None:
    """Nobody could compare how many labels look normal with real defects."""
    record = TypeRecord("crack", 2, 40, 80, 0.2, 0.025, 1.0, 0.875, 16.5, 0.25, 0.5)._asdict()
    pq.write_table(pa.Table.from_pylist([record], schema=VERDICT_SCHEMA), copy / "data/synthesize" / CATEGORY / "paste" / VERDICT)
    republish(copy, "paste", lambda rows: rows)

    found = ask("sql", "SELECT * FROM verdict WHERE method = 'paste'")["rows"]

    assert found == [{"version": "workspace", "category": CATEGORY, "method": "paste", **record}]


def test_a_method_of_another_name_needs_no_change(copy: Path) -> None:
    """Each new method would need its own queries."""
    rename = {"method": "glass"}
    rows = republish(
        copy, "glass", lambda rows: [row | rename | {"sample_id": f"glass{row['sample_id'].removeprefix('paste')}"} for row in rows]
    )

    found = ask("up", rows[0]["sample_id"])

    assert {row["role"] for row in found["made_from"]} == {"background", "defect", "mask"}
    assert {row["method"] for row in ask("diff", "v3", "workspace")["changes"] if row["cause"] == "new data set"} == {"glass"}


@pytest.mark.parametrize(("name", "kind", "role"), [("masks", "resampled", "part of the mask"), ("places", "real", "place or likeness")])
def test_masks_that_a_row_names_among_its_choices_are_traced_both_ways(copy: Path, name: str, kind: str, role: str) -> None:
    """A photograph that must go would stay in the shapes or the places of samples, or its recall would change samples that nobody was told of."""
    masks = pd.read_parquet("data/prepare/" + CATEGORY + "/catalog.parquet").query("split == 'train' and defect != 'good'")
    one, other, *_ = masks[["mask_path", "mask_sha256"]].drop_duplicates("mask_sha256").itertuples(index=False)
    mixed = json.dumps({"area": 9, name: [{"path": other.mask_path, "sha256": other.mask_sha256}]})
    change = {"mask_kind": kind, "mask_path": one.mask_path, "mask_sha256": one.mask_sha256, "choices": mixed}
    rows = republish(copy, "paste", lambda rows: [rows[0] | change, *rows[1:]])

    found = ask("down", other.mask_path, "--rev", "workspace")
    up = ask("up", rows[0]["sample_id"])["made_from"]

    assert [row["sample_id"] for row in found["every_sample"] if role in row["used_as"]] == [rows[0]["sample_id"]]
    assert (role, other.mask_path, "train") in {(row["role"], row["path"], row["split"]) for row in up}


def test_a_missed_defect_is_traced_both_ways(copy: Path) -> None:
    """Who recalls its photograph would not be told of the rows that are planned anew, and took no pixel of it."""
    catalog = pd.read_parquet("data/prepare/" + CATEGORY + "/catalog.parquet").query("split == 'train' and defect != 'good'")
    missed = {name: str(catalog[name].iloc[0]) for name in ("image_path", "image_sha256", "mask_path", "mask_sha256")}
    unnamed = {"source_path": "", "source_sha256": "", "mask_kind": "perlin", "mask_path": "", "mask_sha256": ""}
    change = {**unnamed, "choices": json.dumps({"missed": missed})}
    rows = republish(copy, "paste", lambda rows: [rows[0] | change, *(row | unnamed for row in rows[1:])])
    sample = rows[0]["sample_id"]

    up = {(row["role"], row["path"], row["split"]) for row in ask("up", sample)["made_from"]}

    assert {("missed defect", missed[name], "train") for name in ("image_path", "mask_path")} <= up
    for name in ("image_path", "mask_path"):
        touched = {row["sample_id"]: row["used_as"] for row in ask("down", missed[name], "--rev", "workspace")["every_sample"]}
        assert {one: uses for one, uses in touched.items() if one.startswith("paste/")} == {sample: ["missed defect"]}


def test_a_texture_is_a_source(copy: Path) -> None:
    """A picture without a licence, of which textures were taken, could not be followed into the samples."""
    texture = {"texture_path": 'bank/a "b".png', "texture_sha256": "7" * 64, "texture_seed": 0}

    def textured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        renamed = [row | {"method": "draem", "sample_id": f"draem{row['sample_id'].removeprefix('paste')}"} for row in rows]
        drawn = {"texture_path": "", "texture_sha256": "", "texture_seed": 7}
        return [row | {"choices": json.dumps(texture if k < 2 else drawn), "mask_kind": "perlin"} for k, row in enumerate(renamed)]

    rows = republish(copy, "draem", textured)

    assert ("texture", texture["texture_path"]) in {(row["role"], row["path"]) for row in ask("up", rows[0]["sample_id"])["made_from"]}
    for source in (texture["texture_path"], "7" * 12):
        found = ask("down", source)
        assert [(row["path"], row["kind"], row["versions"]) for row in found["source"]] == [
            (texture["texture_path"], "texture", ["workspace"])
        ]
        assert {row["sample_id"]: row["used_as"] for row in found["every_sample"]} == {row["sample_id"]: ["texture"] for row in rows[:2]}


@pytest.mark.parametrize("source", ["bank", "others"])
def test_orphans_are_textures_too(copy: Path, source: str) -> None:
    """Samples of a texture that nobody has any more, or a bank of which nothing is drawn, would stay unnoticed."""
    (copy / "bank").mkdir()
    for name in ("kept", "changed", "gone", "unused"):
        (copy / "bank" / f"{name}.png").write_bytes(name.encode())
    known = pd.read_parquet(f"data/prepare/{CATEGORY}/catalog.parquet").query("split == 'train'")[["image_path", "image_sha256"]].iloc[0]
    files = {f"{name}.png": file_digest(copy / "bank" / f"{name}.png") for name in ("kept", "changed", "gone")}
    drawn = [*files.items()] if source == "bank" else [*list(files.items())[1:], tuple(known)]
    told = [json.dumps({"texture_path": path, "texture_sha256": sha256}) for path, sha256 in drawn]
    rename = {"method": "draem"}
    more = {"textures.source": json.dumps(source)}
    republish(
        copy,
        "draem",
        lambda rows: [
            row | rename | {"choices": told[k % 3], "sample_id": f"draem{row['sample_id'].removeprefix('paste')}"}
            for k, row in enumerate(rows)
        ],
        **more,
    )
    (copy / "bank" / "changed.png").write_bytes(b"other")
    (copy / "bank" / "gone.png").unlink()

    found = ask("orphans")

    orphans = {row["path"]: row["why"] for row in found["samples_without_a_source"] if row["role"] == "texture"}
    if source == "bank":
        assert orphans == {"changed.png": "other bytes", "gone.png": "not in bank"}
        told_of = [(row["folder"], row["textures"], row["without_a_sample"], row["first"]) for row in found["textures_without_a_sample"]]
        assert told_of == [("bank", 3, 1, "unused.png")]
    else:
        assert orphans == dict.fromkeys(("changed.png", "gone.png"), "not in the catalog")
        assert "textures_without_a_sample" not in found


def test_a_file_that_is_photograph_and_texture_is_both(copy: Path) -> None:
    """A photograph of which a texture was drawn under its earlier bytes would end in a traceback, and textures without a file be blamed."""
    background = republish(copy, "paste", lambda rows: rows)[0]["background_path"]
    texture = {"texture_path": background, "texture_sha256": "7" * 64, "texture_seed": 0}
    republish(copy, "paste", lambda rows: [row | {"choices": json.dumps(texture)} for row in rows])

    done = run_verb("lineage", "down", background, "--rev", "workspace")

    assert done.exit_code == 0
    assert {row["kind"] for row in ask("down", background, "--rev", "workspace")["source"]} == {"image", "texture"}


def test_another_attempt_is_a_cause(copy: Path) -> None:
    """A sample that was tried again would look like one too many."""
    added = republish(copy, "paste", lambda rows: [rows[0] | {"verdict": "rejected"}, tried_again(rows[0]), *rows[1:]])[1]["sample_id"]

    found = ask("diff", "v3", "workspace")["every_change"]

    assert [(row["sample_id"], row["change"], row["cause"]) for row in found] == [
        (added.removesuffix("1") + "0", "only metadata", []),
        (added, "added", ["attempt"]),
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (Changed((), (), ("the verdict",)), "the verdict"),
        (Changed((), (), ("source", "the verdict")), "source"),
        (Changed((), ("paste.rotation",), ("the verdict",)), "parameter paste.rotation"),
    ],
)
def test_the_verdict_is_a_cause_where_nothing_decides_it(changed: Changed, told: str) -> None:
    """One would look for `judge` in params.yaml, or at the verdict's code where a photograph was added."""
    assert in_words(["planned"], changed) == told


def tried_again(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"attempt": 1, "sample_id": row["sample_id"].removesuffix("0") + "1"}


def test_tables_fit_a_terminal_and_print_names_as_they_are(here: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """A file called like markup or an escape sequence would hide itself or others; a wide table would be cut off."""
    sample_id = here.samples("v1").iloc[0].sample_id
    for words in (
        ("up", sample_id),
        ("diff", "v1", "v2"),
        ("reuse", "--all"),
        ("why", sample_id, "v1", "v2"),
        ("orphans",),
        ("up", METRIC),
    ):
        done = run_verb("lineage", *words)
        assert done.exit_code == 0
        assert max(map(len, done.output.splitlines())) <= 100

    print_answer({"rows": [{"path": "[red]a[/red]\x1b[31m", "count": 1}]})

    assert "[red]a[/red]\\x1b[31m" in capsys.readouterr().out


def test_a_path_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`stage lineage up ... | grep 001_mask.png` would find nothing, since the name goes on in the next line."""
    monkeypatch.delenv("COLUMNS", raising=False)
    path = f"{'long/' * 30}001_mask.png"
    print_answer({"rows": [{"path": path, "group": path}], "one": [dict.fromkeys("abcde", path)]})

    assert capsys.readouterr().out.count(path) == 7
