"""The verbs that make samples, check them and clear up, on a small trained category."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import refused, run
from PIL import Image
from source_tree import ROOT

from stage.chaos.miniature import make_miniature
from stage.core.params import load_params
from stage.jobs.job import load_job
from stage.model.base_pointer import write_pointer
from stage.release.publication import publish_jobs, publish_runs

COUNTED = {  # 2 types of 6 in batches of 4; 2 steps each, or none
    "stage": {"method": "stage", "category": "part", "samples": 12, "batches": 4, "network_calls": 8},
    "paste": {"method": "paste", "category": "part", "samples": 12, "batches": 4, "network_calls": 0},
}
SAMPLES = Path("data/synthesize/part")  # a folder per method
OUTPUT = SAMPLES / "stage"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose category is trained."""
    root = tmp_path_factory.mktemp("trained")
    made = make_miniature(root / "data", load_params(ROOT / "params.yaml").model_copy(update={"methods": ("stage", "paste")}))
    shutil.copytree(made.base, root / "data/pretrain/base")
    write_pointer(root / "data/pretrain/base", root / "data/pretrain", "small")
    (root / "params.yaml").write_text(yaml.safe_dump(made.params.model_dump(mode="json")))
    return root


@pytest.fixture(autouse=True)
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, to work in; a worker leaves the signals of this process as they are."""
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "project"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path / "project"
    for number, handler in before.items():
        signal.signal(number, handler)


def change(**values: object) -> None:
    """Change values of `synthesize` in params.yaml."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["synthesize"].update(values)
    Path("params.yaml").write_text(yaml.safe_dump(params))


def planned(*options: str) -> dict[str, dict[str, Any]]:
    """What is told of each method's job."""
    found = json.loads(run("plan", "--json", *options).stdout)
    assert len({one["category"] for one in found}) == 1
    return {one["method"]: one for one in found}


@pytest.mark.parametrize("method", ["stage", "draem"])
def test_a_preview_shows_samples_of_every_type_and_leaves_nothing_else(project: Path, method: str) -> None:
    """A user would see the first picture of a method after a night."""
    before = {path for path in project.rglob("*") if "build" not in path.parts}
    answer = run("preview", method, "part", "--count", "2")
    with Image.open(project / "build/preview" / f"{method}-part.png") as sheet:
        shown = np.array(sheet)

    assert answer.exit_code == 0, answer.output
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50
    assert {path for path in project.rglob("*") if "build" not in path.parts} == before


def test_a_preview_of_what_is_not_there_is_refused() -> None:
    """A misspelt name would end in a traceback."""
    assert "Expected a method among stage, paste" in refused("preview", "dream", "part")
    assert refused("preview", "draem", "bottle") == "Expected categories among part, found bottle. Look into params.yaml."


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        (["stage"], "found none. Run `dvc repro train@part`."),
        # `dvc repro train@part` alone would train nothing, and the preview say the same again.
        (["paste"], "found none. Add stage to methods in params.yaml, for only then something is trained. Run `dvc repro train@part`."),
    ],
)
def test_a_preview_without_a_training_says_how_to_get_one(methods: list[str], told: str) -> None:
    """A user of a method that params.yaml does not list would be sent round in a circle."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**params, "methods": methods}))
    Path("data/train/part/adapters.safetensors").unlink()
    assert refused("preview", "stage", "part").endswith(told)


def made() -> dict[str, Path]:
    """The folder of each method's job, with every batch made by `stage worker`."""
    jobs = {method: Path(one["job"]) for method, one in planned("--no-measure").items()}
    assert [run("worker", str(job)).exit_code for job in jobs.values()] == [0, 0]
    return jobs


def published() -> None:
    """All samples, made and published."""
    for method, job in made().items():
        publish_jobs([job], SAMPLES / method, lease_s=60.0)
        publish_runs([job], Path("data/runs/part") / method, lease_s=60.0)


def test_a_plan_is_a_folder_for_scripts_and_its_cost_for_people() -> None:
    """`job=$(stage plan)` would hold a sentence, or nobody would know what the night is going to cost."""
    result = run("plan")

    folders = result.stdout.splitlines()
    assert {*folders} == {str(folder) for folder in Path(".spool/jobs").iterdir()}
    assert len(folders) == 2
    cost = "about 0.0 min with one worker here and 0.0"
    assert f"12 samples of part to make by stage, in 4 batches, 8 network calls, {cost}" in result.stderr
    assert f"12 samples of part to make by paste, in 4 batches, 0 network calls, {cost}" in result.stderr
    assert result.stderr.count("measure part: 2/2") == 2


def test_a_plan_for_machines_has_the_same_in_json() -> None:
    """A scheduler could not ask for the time and the disk that it takes."""
    found = planned()

    assert {*found} == {*COUNTED}
    for method, counted in COUNTED.items():
        assert {name: found[method][name] for name in counted} == counted
        assert found[method]["seconds"] > 0
        assert 0 < found[method]["bytes"] < found[method]["free_bytes"]
        assert {*found[method]} == {*counted, "job", "seconds", "bytes", "free_bytes"}


def test_a_plan_without_a_measurement_renders_nothing() -> None:
    """On a login node it would take minutes of a machine that has no GPU."""
    (Path("data/train/part") / "checkpoint.json").write_text("")  # who loads the network fails

    found = planned("--no-measure")
    result = run("plan", "--no-measure")

    for method, counted in COUNTED.items():
        assert {name: found[method][name] for name in counted} == counted
        assert (found[method]["seconds"], found[method]["bytes"]) == (None, None)
    assert result.stdout.splitlines() == [one["job"] for one in found.values()]
    assert result.stderr.splitlines() == [
        "  12 samples of part to make by stage, in 4 batches, 8 network calls",
        "  12 samples of part to make by paste, in 4 batches, 0 network calls",
    ]


def test_a_plan_before_the_training_counts_everything_and_costs_what_it_can() -> None:
    """A user could not ask what the samples will cost before they have paid for the training."""
    shutil.rmtree("data/train")
    shutil.rmtree("data/pretrain")
    result, found = run("plan"), planned("--no-measure")

    assert [one["samples"] for one in found.values()] == [12, 12]
    assert {name: found["stage"][name] for name in COUNTED["stage"]} == COUNTED["stage"]
    assert found["stage"]["job"] is None
    assert result.stdout.splitlines() == [found["paste"]["job"]]
    assert "by stage, in 4 batches, 8 network calls; how long they take is not known before `dvc repro train@part`" in result.stderr
    assert "12 samples of part to make by paste, in 4 batches, 0 network calls, about 0.0 min" in result.stderr


def test_a_disk_that_holds_each_category_and_not_both_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The night would end half-way through the second category."""
    for verb in ("prepare", "train"):
        shutil.copytree(f"data/{verb}/part", f"data/{verb}/other")
    values = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(values | {"categories": ["part", "other"]}))
    size = sum(one["bytes"] for one in planned("--category", "part").values())
    usage = shutil.disk_usage(".")._replace(free=size * 3 // 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    assert [run("plan", "--category", name).exit_code for name in ("part", "other")] == [0, 0]
    told = re.search(r"^Expected ([0-9.]+) GB free on the disk of \.spool/jobs/stage-part-.* found ([0-9.]+) GB\.", refused("plan"))
    assert told is not None
    assert float(told[1]) > float(told[2])
    assert "for 48 samples of part, other in the spool" in refused("plan", "--json")
    again = planned("--category", "part", "--category", "part")
    assert [one["free_bytes"] for one in again.values()] == [usage.free] * 2


def test_a_worker_makes_what_was_planned_and_then_nothing_is_left() -> None:
    """`stage plan` would promise another run than the one that follows."""
    jobs = made()

    for method, job in jobs.items():
        assert load_job(job).unfinished() == []
        assert publish_jobs([job], SAMPLES / method, lease_s=60.0)["count"] == COUNTED[method]["samples"]
    found = planned()
    assert {one[name] for one in found.values() for name in ("samples", "batches", "network_calls", "seconds", "bytes")} == {0}


@pytest.mark.parametrize(("spoil", "message"), [("params.yaml", "found 1 problem"), ("job.json", "found none")])
def test_a_worker_that_cannot_begin_says_so_with_the_status_for_it(spoil: str, message: str) -> None:
    """A typing error would look like a crash, and the scheduler would start the worker again for ever."""
    job = Path(planned("--no-measure")["stage"]["job"])
    change(count="many") if spoil == "params.yaml" else (job / spoil).unlink()

    ended = run("worker", str(job))

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert message in ended.stderr


def test_what_is_published_is_verified() -> None:
    """A damaged data set would be trained on, or a whole one be made again."""
    published()
    assert run("verify").stdout == "Everything is as it was published.\n"
    assert run("verify", "--json").stdout == "[]\n"

    shard = sorted(OUTPUT.glob("shards/*"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])

    assert refused("verify") == (
        "Expected published samples as they were made, found 1 problem. Run `dvc checkout --force synthesize` for what was published "
        "last, or `dvc repro synthesize` to make it again."
    )


def test_a_data_set_from_elsewhere_is_verified(tmp_path: Path) -> None:
    """Whoever receives one would need the project's layout around it to check it."""
    published()
    shutil.copytree(OUTPUT, tmp_path / "received")
    (tmp_path / "received" / "plan.parquet").unlink()
    Path("params.yaml").unlink()

    assert run("verify", str(OUTPUT)).stdout == "Everything is as it was published.\n"
    told = refused("verify", str(OUTPUT), str(tmp_path / "received"))
    assert "found 1 problem. Get the data set again from where it was published." in told


def test_a_file_of_the_finder_is_named_and_is_no_damage(tmp_path: Path) -> None:
    """Every copy that a Mac has looked at would count as damaged; or a file that does not belong to the data set would stay unnoticed."""
    published()
    shutil.copytree(OUTPUT, tmp_path / "received")
    (tmp_path / "received" / ".DS_Store").write_bytes(b"x")

    result = run("verify", str(tmp_path / "received"))

    assert (result.exit_code, result.stdout) == (0, "Everything is as it was published.\n")
    assert f"{tmp_path}/received/.DS_Store: a file that does not belong to the data set; it changes no sample." in result.stderr


def test_who_made_the_samples_is_verified_too() -> None:
    """An auditor would be told of runs that were never made."""
    published()
    (Path("data/runs/part/stage") / "runs.parquet").write_bytes(b"PAR1")

    assert "found 1 problem" in refused("verify")


def test_problems_for_machines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A nightly check could not say which file of which category is damaged."""
    message = refused("verify", "--json")
    told = capsys.readouterr()

    problems = json.loads(told.out)
    assert all({*problem} == {"folder", "where", "what"} for problem in problems)
    assert [(one["folder"], one["where"]) for one in problems] == [(str(SAMPLES / method), "manifest.json") for method in COUNTED]
    assert "found 2 problems" in message
    assert "verify: 2/2" in told.err


def test_garbage_is_told_by_reason_and_then_removed() -> None:
    """One would read ten thousand lines, or not know what goes."""
    jobs = made()
    change(count=3)

    told, listed = run("gc", "--dry-run").stdout.splitlines(), json.loads(run("gc", "--dry-run", "--json").stdout)

    assert [line.split("MB", 1)[1].strip() for line in told] == [
        "jobs that no parameters of today plan",
        "batches of no job that is kept",
        "would go.",
    ]
    assert [line.split()[0] for line in told[:2]] == ["2", "8"]
    assert {item["path"] for item in listed} == {
        *map(str, jobs.values()),
        *(str(path) for path in Path(".spool/batches").glob("*/*.parquet")),
    }
    assert {*listed[0]} == {"path", "size", "why", "detail"}
    assert sum(item["size"] for item in listed) == sum(path.stat().st_size for path in Path(".spool").rglob("*") if path.is_file())
    assert run("gc").stdout.splitlines()[-1].endswith(" MB are gone.")
    assert not [path for path in Path(".spool").rglob("*") if path.is_file()]


@pytest.mark.parametrize("settings", ["params.yaml", *sorted(path.name for path in (ROOT / "params").glob("*.yaml"))])
@pytest.mark.parametrize("with_ablation", [True, False])
def test_garbage_is_collected_with_every_named_setting(settings: str, with_ablation: bool) -> None:
    """Three of four would refuse, because of an ablation that nobody asked for."""
    if with_ablation:
        shutil.copytree(ROOT / "ablation", "ablation")
    shutil.copy(ROOT / settings if settings == "params.yaml" else ROOT / "params" / settings, "params.yaml")

    assert run("gc").stdout == "0.0 MB are gone.\n"
