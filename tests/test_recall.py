"""`stage recall`: what it says before, what the next run makes again, and that nothing of the recalled remains."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import refused
from commands import run as run_verb
from PIL import Image
from ruamel.yaml import YAML
from small_factory import CATEGORY, Factory, build
from versions_of_data import METRIC, Project, ask, other_checkpoint, publish, shell, start, tag

from stage.core.digests import file_digest
from stage.core.durable import read_sealed, write_sealed
from stage.core.errors import ConfigError
from stage.core.params import Params
from stage.core.synthesis_params import Textures
from stage.datasets.catalog import prepare
from stage.datasets.entries import Entry
from stage.datasets.recalled import BESIDE, Recall, read_recalls, write_withdrawn
from stage.datasets.recalled_entries import without_recalled
from stage.datasets.split import divide
from stage.datasets.table import read_catalog
from stage.jobs.job import load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.lineage.withdrawal import add, places_of
from stage.lineage.withdrawn import withdrawn_in
from stage.release.publication import publish_jobs
from stage.release.verification import verify
from stage.segmentation.choice import CHOICE, Choice, Gain
from stage.synthesis.method import METHODS
from stage.synthesis.plan import defects_of
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import read_source
from stage.synthesis.textures import bank_of

GOOD = f"{CATEGORY}/train/good"


class Recalled(NamedTuple):
    """A project in whose version v2 a background of v1 is withdrawn."""

    project: Project
    factory: Factory
    path: str
    sha256: str


def again(factory: Factory, recalls: Sequence[Recall]) -> Factory:
    """What the next `dvc repro` makes of the prepared data."""
    params = factory.params
    prepare(params.prepare, params.categories, factory.data.parent / "raw", factory.data / "prepare", recalls)
    return factory


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Recalled:
    """v1, the background of a sample of `paste` recalled by the command line, and v2 made after it."""
    root = tmp_path_factory.mktemp("recall")
    factory, project = build(root / "made"), Project(start(root / "project"), root / "kept")
    write_params(factory.params, project.root / "params.yaml")
    tag(project, publish(factory, factory.params), "v1")
    row = project.samples("v1", "paste").iloc[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        assert run_verb("recall", row.background_path, "--reason", "a scratch that nobody saw").exit_code == 0
        recalls = read_recalls()
    factory = other_checkpoint(again(factory, recalls))
    tag(project, publish(factory, factory.params), "v2")
    return Recalled(project, factory, row.background_path, row.background_sha256)


@pytest.fixture
def here(done: Recalled, monkeypatch: pytest.MonkeyPatch) -> Recalled:
    """The project as the working folder; tests leave it as it is."""
    monkeypatch.chdir(done.project.root)
    return done


@pytest.fixture
def copy(done: Recalled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil."""
    shutil.copytree(done.project.root, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def write_params(params: Params, path: Path) -> None:
    values = json.loads(params.model_dump_json())
    values["segment"]["arms"] = []  # `perfect` is of the demo's data alone
    YAML().dump(values, path)


def test_dry_run_counts_what_it_touches_and_writes_nothing(here: Recalled) -> None:
    """Someone would withdraw a photograph and learn after a week of training what it cost."""
    v1 = here.project.samples("v1")
    path = v1[(v1.method == "paste") & (v1.background_path != here.path)].iloc[0].background_path
    before = (here.project.root / "recalled.yaml").read_bytes()

    done = run_verb("recall", path, "--dry-run", "--json")
    found = json.loads(done.stdout)

    assert (here.project.root / "recalled.yaml").read_bytes() == before
    for version in ("v1", "v2"):
        samples = here.project.samples(version)
        (told,) = (row for row in found["tainted_versions"] if row["version"].split(", ")[0] == version)
        assert told["made_from_it"] == (samples.background_path == path).sum()
        assert told["made_by_its_networks"] == (samples.method == "stage").sum()
        assert told["evaluations"] == 4  # of each arm, with one seed
    again = {(row["method"], row["how"]): row["samples"] for row in found["to_make_again"]}
    v2 = here.project.samples("v2")
    assert again == {
        ("paste", "planned anew"): ((v2.method == "paste") & (v2.background_path == path)).sum(),
        ("stage", "its network is trained again"): (v2.method == "stage").sum(),
    }


def test_the_recall_of_a_mask_touches_what_its_photograph_does(copy: Path) -> None:
    """Samples and networks of the photograph, which is withdrawn too, would be made again without a word, and passed on by others as clean."""
    catalog = pq.read_table(Path("data", "prepare", CATEGORY, "catalog.parquet"), columns=["image_path", "mask_path", "split"]).to_pylist()
    defect = next(row for row in catalog if row["mask_path"] and row["split"] == "train")
    tables = [json.loads(run_verb("recall", defect[name], "--dry-run", "--json").stdout) for name in ("image_path", "mask_path")]

    for name in ("networks", "to_make_again", "tainted_versions", "evaluations", "every_sample"):
        assert tables[0][name] == tables[1][name]
    assert [row["path"] for row in tables[1]["withdrawn_with_it"]] == [defect["image_path"]]
    assert run_verb("recall", defect["mask_path"], "--reason", "wrong").exit_code == 0
    assert [one.kind for one in read_recalls()][1:] == ["mask"]
    told = [row for row in ask("recalled")["tainted_versions"] if row["recalled"] == defect["mask_path"]]
    assert [{**row, "recalled": ""} for row in told] == [{"recalled": "", **row} for row in tables[0]["tainted_versions"]]

    withdrawals = Path("recalled.yaml")  # as if the wrong mask was another file, which was corrected before these versions
    withdrawals.write_text(withdrawals.read_text().replace(read_recalls()[1].sha256, "f" * 64))
    assert defect["mask_path"] not in {row["recalled"] for row in ask("recalled")["tainted_versions"]}


def test_what_a_recall_has_not_reached_is_named(copy: Path, done: Recalled) -> None:
    """Samples of a withdrawn photograph would be handed out, or pass for clean, until the next `dvc repro`."""
    shutil.rmtree(copy / "data")
    shutil.copytree(done.project.kept / "v1", copy / "data")
    v1, methods = done.project.samples("v1"), len(done.factory.params.methods)
    of_paste = v1[v1.method == "paste"]
    gone = of_paste[of_paste.background_path == done.path]
    told = f"{len(gone)} of {len(of_paste)} samples in data/synthesize/{CATEGORY}/paste"

    assert told in (message := refused("export"))
    assert f"1 photograph in data/prepare/{CATEGORY}" in message
    assert not Path("build/export").exists()
    assert told in run_verb("export", "--with-recalled").stderr
    checked = run_verb("verify", "--json")
    assert (checked.exit_code, told in checked.stderr) == (0, True)
    assert {row["where"] for row in json.loads(checked.stdout)} == {"recalled.yaml"}
    assert len(json.loads(checked.stdout)) == methods
    assert [(row["path"], row["used_as"]) for row in ask("up", gone.sample_id.iloc[0])["recalled"]] == [(done.path, ["background"])]
    assert "withdraws 1 source of part/" in run_verb("lineage", "up", METRIC).stderr
    assert "recalled" not in ask("up", of_paste[of_paste.background_path != done.path].sample_id.iloc[0])


def test_what_a_recall_has_reached_is_exported(here: Recalled, tmp_path: Path) -> None:
    """After `dvc repro`, nothing could be exported any more."""
    done = run_verb("export", "--output", str(tmp_path / "export"))

    assert (done.exit_code, done.stderr.count("recalled.yaml")) == (0, 0)
    assert run_verb("verify", "--json").stdout == "[]\n"
    assert "recalled" not in ask("up", here.project.samples("v2").sample_id.iloc[0])


def test_a_recall_stops_only_the_export_of_what_it_touches(copy: Path) -> None:
    """What was chosen could not be exported for the sake of a method that the export leaves out, or that was never published."""
    sample = next(iter(pq.read_table(copy / "data/synthesize" / CATEGORY / "stage/plan.parquet")["sample_id"].to_pylist()))
    assert run_verb("recall", sample, "--reason", "blurred").exit_code == 0
    choice = copy / "data" / "segment" / CATEGORY / CHOICE

    Choice("real_and_stage", {"real_and_stage": Gain(0.02, 0.005)}, []).write(choice)
    assert "1 of " in refused("export", "--chosen")
    Choice("real_and_paste", {"real_and_paste": Gain(0.02, 0.005)}, []).write(choice)
    shutil.rmtree(copy / "data" / "synthesize" / CATEGORY / "stage")
    assert run_verb("export", "--chosen").exit_code == 0


def test_a_photograph_can_be_recalled_before_samples_are_published(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks would be trained on it for days, until there are samples to recall it by."""
    (new := copy.parent / "new").mkdir()
    shutil.copytree(copy / "data" / "prepare", new / "data" / "prepare")
    shutil.copy(copy / "params.yaml", new)
    monkeypatch.chdir(new)
    catalog = pq.read_table(Path("data", "prepare", CATEGORY, "catalog.parquet"), columns=["image_path", "mask_path", "split"]).to_pylist()
    defect = next(row for row in catalog if row["mask_path"] and row["split"] == "train")

    done = run_verb("recall", defect["image_path"], "--reason", "not ours", "--json")

    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert {row["path"]: row["role"] for row in found["source"]} == {defect["image_path"]: "training", defect["mask_path"]: "mask"}
    assert "No samples are published yet" in found["note"][-1]["note"]
    assert [(one.path, one.mask_path) for one in read_recalls()] == [(defect["image_path"], defect["mask_path"])]
    assert [row["path"] for row in ask("recalled")["recalled"]] == [defect["image_path"]]
    assert "none of them knows" in refused("recall", "nowhere.png", "--dry-run")


def test_a_base_from_scratch_is_named_before_anyone_waits_for_it(copy: Path, done: Recalled) -> None:
    """All networks would be trained again for days, and nobody would have said so."""
    for folder in (copy / "data" / "synthesize" / CATEGORY).glob("stage"):
        table = pq.read_table(folder / "checkpoints.parquet")
        trained = table["sources"].to_pylist()[0]
        pq.write_table(
            table.set_column(
                table.schema.get_field_index("sources"),
                table.schema.field("sources"),
                pa.array([trained, trained], table.schema.field("sources").type),
            ),
            folder / "checkpoints.parquet",
        )
        reseal(folder)
    other = next(path for path in done.project.samples("v2").background_path if path != done.path)

    assert "The base, which `pretrain` trains on all images, has seen it" in " ".join(run_verb("recall", other, "--dry-run").output.split())


def reseal(folder: Path) -> None:
    """Give a manifest the digest of a table that a test has changed."""
    told = read_sealed(folder / "manifest.json")
    told["tables"]["checkpoints.parquet"]["sha256"] = file_digest(folder / "checkpoints.parquet")
    write_sealed({name: value for name, value in told.items() if name != "seal"}, folder / "manifest.json")


def test_nothing_dangles_after_a_recall(here: Recalled) -> None:
    """A withdrawn photograph would live on in a sample, a network or a number."""
    data = here.project.kept / "v2"
    tables = [path for path in data.rglob("*.parquet") if path.name != "catalog.parquet"]
    assert {"plan.parquet", "sources.parquet", "checkpoints.parquet", "scores.parquet"} <= {path.name for path in tables}
    for path in [*tables, *data.rglob("*.json")]:
        text = path.read_bytes() if path.suffix == ".json" else str(told(path)).encode()
        assert here.sha256.encode() not in text, path
        assert here.path.encode() not in text or path.name == BESIDE, path

    catalog = pq.read_table(data / "prepare" / CATEGORY / "catalog.parquet").to_pandas().set_index("image_path")
    row = catalog.loc[here.path]
    assert (row.status, row.reason) == ("recalled", "recalled: a scratch that nobody saw")
    assert row[["image", "mask", "foreground"]].isna().all()
    found = ask("down", here.path)
    assert {version for row in found["every_sample"] for version in row["versions"]} == {"v1"}
    assert [verify(folder) for folder in (data / "synthesize" / CATEGORY).iterdir()] == [[], []]


def told(path: Path) -> list[dict[str, Any]]:
    """The rows of a table without pictures."""
    names = [name for name in pq.read_schema(path).names if name not in ("image", "mask")]
    return pq.read_table(path, columns=names).to_pylist()


def test_only_the_holes_of_paste_change_their_pixels(here: Recalled) -> None:
    """One photograph less would make every sample another one, and no comparison with the version before would hold."""
    before, after = (here.project.samples(version, "paste").set_index("sample_id") for version in ("v1", "v2"))
    holes = before.index[before.background_path == here.path]

    assert [*before.index] == [*after.index]
    assert 0 < len(holes) < len(before)
    changed = (before.image_digest != after.image_digest) | (before.mask_digest != after.mask_digest)
    assert set(before.index[changed]) <= {*holes}
    assert (before.background_path != after.background_path).sum() == len(holes)
    assert {row["cause"] for row in ask("diff", "v1", "v2")["changes"] if row["method"] == "paste" and row["change"] == "regenerated"} == {
        "source"
    }


def test_earlier_versions_are_listed_as_tainted(here: Recalled) -> None:
    """A version that was handed out years ago would pass for clean."""
    v1 = here.project.samples("v1")

    found = ask("recalled")

    assert [(row["path"], row["reason"]) for row in found["recalled"]] == [(here.path, "a scratch that nobody saw")]
    (row,) = found["tainted_versions"]
    assert (row["recalled"], row["version"]) == (here.path, "v1")
    assert row["made_from_it"] == (v1.background_path == here.path).sum()
    assert row["made_by_its_networks"] == (v1.method == "stage").sum()


def plan(factory: Factory, method: str, folder: Path, **changes: object) -> list[PlanRow]:
    """The first rows of a method on a prepared category, of every type."""
    pasting = factory.params.paste.model_copy(update={"where": changes.pop("where", "own")})
    params = factory.params.model_copy(update={"textures": Textures(source="own", licence="CC0-1.0"), "paste": pasting})
    recipe = factory.recipe(method, params, **changes).model_copy(update={"catalog": folder})
    catalog = read_catalog(folder / "catalog.parquet")
    row = METHODS[method].planner(recipe, catalog, read_source(folder))
    return [row(Identity(method, CATEGORY, defect, k, 0)) for defect in defects_of(catalog) for k in range(12)]


def recalls_of(factory: Factory, folder: Path, path: str) -> list[Recall]:
    """As the command line records a photograph of a prepared category."""
    row = read_catalog(folder / "catalog.parquet").set_index("image_path").loc[path]
    names = ("category", "defect", "source_split", "group", "image_sha256")
    mask = {"mask_path": row.mask_path, "mask_sha256": row.mask_sha256, "prepared_area": int(row.prepared_area)}
    places = places_of(folder, row.image_sha256, factory.params.synthesize)
    return [
        Recall(
            kind="image",
            path=path,
            sha256=row.image_sha256,
            reason="r",
            date="2026-11-29",
            image_path=path,
            places=places,
            **{name: row[name] for name in names},
            **({} if row.defect == "good" else mask),
        )
    ]


def prepared(factory: Factory, recalls: Sequence[Recall], output: Path, without: Sequence[str] = ()) -> Path:
    """The category prepared with these recalls, from photographs of which some are gone."""
    raw = output / "raw"
    shutil.copytree(factory.data.parent / "raw", raw)
    for path in without:
        (raw / path).unlink()
    prepare(factory.params.prepare, factory.params.categories, raw, output / "prepare", recalls)
    return output / "prepare" / CATEGORY


class Stages(NamedTuple):
    """A category as it is prepared: with nothing recalled, with a normal photograph, and with a defect's as well, the files of both gone."""

    none: Path
    once: Path
    twice: Path
    gone: tuple[tuple[str, ...], tuple[str, ...]]  # what left with the first recall, and with the second


@pytest.fixture(scope="module")
def stages(done: Recalled, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    root, normal, defect = tmp_path_factory.mktemp("stages"), f"{GOOD}/001.png", f"{CATEGORY}/test/crack/000.png"
    none = prepared(done.factory, [], root / "none")
    first = recalls_of(done.factory, none, normal)
    once = prepared(done.factory, first, root / "once")
    second = recalls_of(done.factory, once, defect)
    twice = prepared(done.factory, [*first, *second], root / "twice", without=[normal, defect])
    return Stages(none, once, twice, ((normal,), (defect, second[0].mask_path)))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {"background": background}) for method in METHODS for background in ("nearest", "random")),
        *(("quilt", {"mask_source": kind}) for kind in ("crack", "resampled")),
        ("paste", {"where": "type"}),
    ],
)
def test_a_recall_plans_anew_what_drew_it_and_nothing_else(done: Recalled, stages: Stages, method: str, changes: dict[str, object]) -> None:
    """Every recall would cost the whole data set again; a second one, or the photograph's deletion, likewise."""
    plans = [plan(done.factory, method, folder, **changes) for folder in (stages.none, stages.once, stages.twice)]

    for before, after, gone in zip(plans, plans[1:], stages.gone, strict=False):
        assert [row.sample_id for row in before] == [row.sample_id for row in after]
        named = {row.sample_id for row in before if any(path in str(row) for path in gone)}
        changed = {one.sample_id for one, two in zip(before, after, strict=True) if one != two}
        assert changed == named
        assert named or gone is not stages.gone[0]
        assert not any(path in str(after) for path in gone)


def test_a_recalled_photograph_moves_no_other_to_the_other_side() -> None:
    """A test image would become a training image, and no number compare with the one before."""
    names = [("good", "train", 5), ("good", "test", 3), *((defect, "test", count) for defect, count in (("a", 11), ("b", 3)))]
    entries = [
        Entry(
            "part",
            defect,
            split,
            f"{split}/{defect}/{k}.png",
            f"{k}_{defect}.png",
            f"{defect}{split}{k}",
            "",
            image_sha256=f"{defect}{split}{k}",
            mask_sha256="m",
        )
        for defect, split, count in names
        for k in range(count)
    ]
    sides = {entry.path: entry.split for entry in divide(entries)}
    for gone in entries:
        recalled = Recall.model_construct(kind="image", path=gone.path, sha256=gone.image_sha256, reason="r", image_path=gone.path)
        after = without_recalled(divide(entries), [recalled])

        left = {entry.path: entry.split for entry in after if entry.status == "accepted"}
        is_last = sides[gone.path] == "train" and gone.defect == "b"
        assert left == {path: side for path, side in sides.items() if path != gone.path and not (is_last and "/b/" in path)}
        assert Counter(entry.status for entry in after)["recalled"] == 1


def test_a_corrected_photograph_under_the_same_name_comes_back(done: Recalled, stages: Stages, tmp_path: Path) -> None:
    """A photograph with a mended label could never be used again."""
    factory = done.factory
    recalls = recalls_of(factory, stages.none, f"{GOOD}/001.png")
    raw = tmp_path / "raw"
    shutil.copytree(factory.data.parent / "raw", raw)
    Image.fromarray(255 - np.array(Image.open(raw / GOOD / "001.png"))).save(raw / GOOD / "001.png")

    prepare(factory.params.prepare, factory.params.categories, raw, tmp_path / "prepare", recalls)

    assert set(read_catalog(tmp_path / "prepare" / CATEGORY / "catalog.parquet").status) == {"accepted"}


@pytest.mark.parametrize(("corrected", "partner"), [("image_path", "mask_path"), ("mask_path", "image_path")])
def test_a_correction_also_brings_back_what_went_with_it(copy: Path, done: Recalled, corrected: str, partner: str) -> None:
    """Export would stay refused for ever, and its advice, `dvc repro`, would not help."""
    folder, output, raw = copy / "data" / "prepare" / CATEGORY, copy / "data" / "synthesize" / CATEGORY / "paste", copy.parent / "raw"
    photograph = f"{CATEGORY}/test/crack/000.png"
    row = {
        "image_path": photograph,
        "mask_path": str(read_catalog(folder / "catalog.parquet").set_index("image_path").mask_path[photograph]),
    }
    assert run_verb("recall", row[corrected], "--reason", "wrong").exit_code == 0
    recalls = read_recalls()
    shutil.copytree(done.factory.data.parent / "raw", raw)
    Image.fromarray(np.flipud(np.array(Image.open(raw / row[corrected])))).save(raw / row[corrected])
    found = [withdrawn_in(Path("data"), CATEGORY, ["paste"], recalls)]

    prepare(done.factory.params.prepare, done.factory.params.categories, raw, copy / "data" / "prepare", recalls)
    found.append(withdrawn_in(Path("data"), CATEGORY, ["paste"], recalls))
    published_samples(done.factory._replace(data=copy / "data"), folder, copy / "spool", output)
    found.append(withdrawn_in(Path("data"), CATEGORY, ["paste"], recalls))

    samples = Path("data/synthesize", CATEGORY, "paste")
    assert [{*one} for one in found] == [{samples, Path("data/prepare", CATEGORY)}, {samples}, set()]
    names = {"image_path": "source_path", "mask_path": "mask_path"}
    plan = pq.read_table(output / "plan.parquet").to_pylist()
    sample = next(one["sample_id"] for one in plan if one[names[partner]] == row[partner])
    assert "recalled" not in ask("up", sample)
    assert [one["path"] for one in ask("up", sample, "--rev", "v2")["recalled"]] == [row[corrected]]
    (here,) = (one for one in ask("recalled", "--rev", "workspace")["tainted_versions"] if one["recalled"] == row[corrected])
    unmade = pq.read_table(copy / "data/synthesize" / CATEGORY / "stage/plan.parquet").to_pylist()  # `stage` is as it was
    assert here["made_from_it"] == sum(row["mask_path"] == one["mask_path"] for one in unmade)
    assert here["made_by_its_networks"] == len(unmade)
    assert here["evaluations"] == 2  # of the arms `real_and_stage` and `real_and_mixture`


def test_a_withdrawn_sample_is_made_by_its_next_attempt(done: Recalled, tmp_path: Path) -> None:
    """A bad sample could be taken out only by throwing its data set away, or its place would stay empty."""
    factory, output = done.factory, tmp_path / "out"
    shutil.copytree(factory.data / "prepare", tmp_path / "prepare")
    folder = tmp_path / "prepare" / CATEGORY
    bad = f"paste/{CATEGORY}/crack/000002/0"
    published = []
    for recalls in ([], [withdrawn(bad)], [withdrawn(bad), withdrawn(bad[:-1] + "1")]):
        write_withdrawn(recalls, CATEGORY, folder)
        published.append(published_samples(factory, folder, tmp_path / "spool", output))
        assert verify(output) == []
    first, second, third = published

    assert set(second) - set(first) == {bad[:-1] + "1"}
    assert set(first) - set(second) == {bad}
    assert {*third} == {*first} - {bad} | {bad[:-1] + "2"}
    assert all(first[name] == second[name] == third[name] for name in {*first} - {bad})


def withdrawn(sample_id: str) -> Recall:
    return Recall(kind="sample", path=sample_id, sha256="0" * 64, reason="blurred", date="2026-11-29", category=CATEGORY)


def published_samples(factory: Factory, catalog: Path, spool: Path, output: Path) -> dict[str, str]:
    """Make and publish `paste`; the pixel digests by id."""
    recipe = factory.recipe("paste", attempts=1).model_copy(update={"catalog": catalog})
    jobs = factory.fill_rounds(load_job(make_job(recipe, BatchStore(spool))))
    publish_jobs([job.folder for job in jobs], output, lease_s=60.0)
    table = pa.concat_tables([pq.read_table(path, columns=["sample_id", "image_digest"]) for path in sorted(output.glob("shards/*"))])
    return dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def test_a_recalled_texture_is_drawn_no_more(tmp_path: Path) -> None:
    """A picture without a licence would stay in every later data set."""
    (tmp_path / "bank").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / "bank" / f"{number}.png")
    params = Textures(source=str(tmp_path / "bank"), licence="")
    draws = []
    for gone, is_deleted in ((None, False), ("1.png", False), ("1.png", True)):
        if is_deleted:
            (tmp_path / "bank" / "1.png").unlink()
        elif gone:
            sha256 = file_digest(tmp_path / "bank" / gone)
            write_withdrawn([Recall(kind="texture", path=gone, sha256=sha256, reason="no licence", date="2026-11-29")], CATEGORY, tmp_path)
        bank = bank_of(params, tmp_path)
        draws.append([bank.draw(np.random.default_rng(seed)).path for seed in range(40)])

    assert "1.png" in draws[0]
    assert draws[1] == draws[2]
    assert all(now == before if before != "1.png" else now != "1.png" for before, now in zip(*draws[:2], strict=True))


def test_a_recall_of_a_sample_names_the_versions_that_have_it(here: Recalled) -> None:
    """A bad sample would be taken out of today's version and forgotten in the others."""
    sample = here.project.samples("v2", "paste").iloc[1]
    versions = {version for version in ("v1", "v2") if sample.sample_id in set(here.project.samples(version).sample_id)}

    found = json.loads(run_verb("recall", sample.sample_id, "--dry-run", "--json").stdout)

    assert {row["version"] for row in found["tainted_versions"]} == versions | {"workspace"}
    assert {row["made_from_it"] for row in found["tainted_versions"]} == {1}
    assert {row["arm"] for row in found["evaluations"]} == {"real_and_paste", "real_and_mixture"}


def test_git_takes_a_recall_back(copy: Path, done: Recalled) -> None:
    """A recall by mistake would be final."""
    other = next(path for path in done.project.samples("v2").background_path if path != done.path)
    assert run_verb("recall", other, "--reason", "a mistake").exit_code == 0
    assert [one.path for one in read_recalls()] == [done.path, other]

    shell(copy, "git checkout recalled.yaml")

    assert [one.path for one in read_recalls()] == [done.path]


def test_the_file_keeps_what_people_write_into_it(tmp_path: Path) -> None:
    """A note beside a withdrawal, such as a ticket, would be lost with the next one."""
    file = tmp_path / "recalled.yaml"
    add([withdrawn("paste/part/crack/000001/0")], file)
    file.write_text(file.read_text().replace("reason: blurred", "reason: blurred  # ticket 7"))
    add([withdrawn("paste/part/crack/000002/0")], file)

    assert "# ticket 7" in file.read_text()
    assert [one.path[-3] for one in read_recalls(file)] == ["1", "2"]


def test_recalls_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    """A withdrawal of which somebody was told that it is recorded would be lost to another one, and its samples made again."""
    file = tmp_path / "recalled.yaml"
    paths = {f"paste/part/crack/{number:06d}/0" for number in range(16)}
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(lambda path: add([withdrawn(path)], file), paths))

    assert {one.path for one in read_recalls(file)} == paths


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.png", "--reason", "r"), "which none of them knows"),
        (("", "--dry-run"), "found an empty text"),
        ((f"{GOOD}/000.png",), "found no --reason"),
        ((f"paste/{CATEGORY}/crack/009999/0", "--reason", "r"), "found none called"),
        (("{checkpoint}", "--reason", "r"), "found the network"),
        (("{path}", "--reason", "r"), "already, since"),
        ((f"{GOOD}/000.png", "--reason", "two\nlines"), "of one line"),
    ],
)
def test_what_cannot_be_recalled_is_refused(here: Recalled, words: tuple[str, ...], told: str) -> None:
    """A typing error would pass for a withdrawal."""
    checkpoint = here.project.samples("v2", "stage").iloc[0].checkpoint
    before = (here.project.root / "recalled.yaml").read_bytes()

    assert told in refused("recall", *(word.format(checkpoint=checkpoint, path=here.path) for word in words))
    assert (here.project.root / "recalled.yaml").read_bytes() == before


@pytest.mark.parametrize("text", ["- kind: photo", "x: [", "- {kind: image, path: a, sha256: no, reason: r, date: '2026-11-29'}"])
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    """Half of the withdrawals would be forgotten, or a run end in a traceback."""
    (tmp_path / "recalled.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"recalled\.yaml"):
        read_recalls(tmp_path / "recalled.yaml")
