"""The whole graph on a micro setting, as a user runs it: the real dvc, the real flows, a copy of the repository."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from source_tree import ROOT

from flows.scoring import planned_trainings
from flows.segment import unfinished
from stage.core.params import load_params

MICRO = {
    "categories": ["fabric"],
    "prepare": {"image_size": 32, "layout": "demo", "source": "stage/datasets/demo"},
    "base": {"source": "scratch", "image_size": 32},
    "pretrain": {"start": "none", "iterations": 24, "batch": 4, "widths": [16, 16], "text_width": 16},
    "train": {"iterations": 4, "batch": 4, "adapter_widths": [16], "timesteps_below": 1000},
    "synthesize": {
        "count": 5,
        "attempts": 1,
        "batch": 4,
        "shard_rows": 4,
        "start": "noise",
        "known_region": "posterior",
        "steps": 4,
        "jump_length": 2,
        "verdict": {"normal_pass": 1.0, "pastes": 4},
    },
    "methods": ["stage", "paste"],
    "segment": {
        "models": ["efficientnet_lite0"],
        "iterations": 3,
        "batch": 4,
        "normal": 1,
        "synthetic": 2,
        "crop": 32,
        "arms": [],
        "folds": 0,
    },
    "evaluate": {"gallery": 2},
    "execution": {"threads": 1, "save_every_s": 0.5, "trainings": 1},
}
ABLATED = ("baseline", "mga_aif_ema", "stage")  # one of each kind: with its own training, with its own samples alone, and with neither
BIN = Path(sys.executable).parent


def change(params: Path, values: Mapping[str, Any]) -> None:
    """Set values in a params.yaml, section by section."""
    yaml = YAML()
    content = yaml.load(params)
    for section, changes in values.items():
        content[section].update(changes) if isinstance(changes, Mapping) else content.__setitem__(section, changes)
    yaml.dump(content, params)


def keep_configurations(file: Path) -> None:
    """Leave out the configurations of the ablation that are like another one."""
    yaml = YAML()
    yaml.dump([one for one in yaml.load(file) if one["name"] in ABLATED], file)


def run(folder: Path, *command: str, status: int = 0) -> str:
    """The output of a command in the copy, which must end with `status`."""
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": "", "COLUMNS": "200"}


def ran(output: str) -> list[str]:
    """The DVC stages that a repro ran, in order, but for `environment`, which looks around every time."""
    names = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]
    return [name for name in names if name != "environment"]


def due(copy: Path, target: str | None = None) -> set[str]:
    """The DVC stages that `dvc repro` would run; without its start, which costs a second. It warns of what it uses of others."""
    with chdir(copy), warnings.catch_warnings(action="ignore"), Repo() as repo:
        return {stage.name for stage in repo.reproduce(target, dry=True)} - {"environment"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Path:
    """A git checkout of the tree as it is, micro parameters, nothing made yet; its flows find the server of all tests."""
    folder = tmp_path_factory.mktemp("factory")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    change(folder / "params.yaml", MICRO)
    keep_configurations(folder / "ablation/configurations.yaml")
    run(folder, "git", "init", "-q")
    return folder


@pytest.fixture(scope="module")
def interrupted(copy: Path) -> str:
    """What `dvc repro` says when Ctrl-C reaches it in the middle of `pretrain`."""
    process = subprocess.Popen(
        ["dvc", "repro", "pretrain"],
        cwd=copy,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list((copy / ".spool").glob("pretrain/base/*/state.safetensors")):
        time.sleep(0.05)  # until there is something to keep
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    return said


@pytest.fixture(scope="module")
def first(copy: Path, interrupted: str) -> str:
    """The output of the first whole `dvc repro`."""
    return run(copy, "dvc", "repro")


def test_ctrl_c_says_what_is_kept_and_leaves_no_traceback(copy: Path, interrupted: str) -> None:
    """A user who stops a long run would not know whether hours are lost."""
    assert "Finished work is kept in .spool; run the same command to continue." in interrupted
    assert "Traceback" not in interrupted
    assert not (copy / "data/pretrain/base").exists()
    assert len(list((copy / ".spool").glob("pretrain/base/*/state.safetensors"))) == 1


def test_an_interrupted_run_continues_where_it_stopped(interrupted: str, first: str) -> None:
    """Stopping a run would throw its work away."""
    begun = [int(line.split("/")[0].removeprefix("pretrain: ")) for line in first.splitlines() if line.startswith("pretrain: ")]

    assert begun[0] > 0


def test_the_graph_runs_and_publishes_everything(copy: Path, first: str) -> None:
    """The two commands of the README would not work."""
    assert ran(first)[0] in {"prepare", "pretrain"}
    assert ran(first)[-1] == "evaluate"
    arms = {"real_only", "real_and_stage", "real_and_paste"}
    for method in ("stage", "paste"):
        folder = copy / f"data/synthesize/fabric/{method}"
        manifest, plan = json.loads((folder / "manifest.json").read_text()), pd.read_parquet(folder / "plan.parquet")

        assert manifest["count"] == len(plan) == 10
        assert set(plan["ordinal"]) == set(range(5))
        assert {name.split("/")[0] for name in plan.sample_id} == {method}
    assert set(json.loads((copy / "data/segment/fabric/metrics.json").read_text())) == arms
    assert (copy / "data/evaluate/report/index.html").is_file()
    assert not (copy / ".spool/prepare").exists()
    assert "Traceback" not in first


def test_the_trained_base_is_a_diffusers_folder(copy: Path, first: str) -> None:
    """Another tool could not open the base."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel.from_pretrained(copy / "data/pretrain/base/unet", use_safetensors=True)

    assert network.config["block_out_channels"] == [16, 16]


def test_a_statement_reruns_exactly_the_stages_that_may_run_it_and_a_comment_none(copy: Path, first: str) -> None:
    """A correction would leave old data in place, or remake what it does not touch; a corrected comment would cost a night."""
    for wing in ("core/digests", "datasets/demo/fabric", "datasets/pairs", "model/diffusion", "synthesis/quality", "segmentation/training"):
        with (copy / f"stage/{wing}.py").open("a") as source:
            source.write("# a comment\n")
    (copy / "stage/datasets/resize.py").rename(copy / "stage/core/resize.py")
    for source in [*(copy / "stage").rglob("*.py"), *(copy / "flows").rglob("*.py")]:
        source.write_text(source.read_text().replace("stage.datasets.resize", "stage.core.resize"))
    changes = {
        "stage/synthesis/methods/stage.py": ("masks = [sample_mask", "masks = 1 * [sample_mask"),
        "stage/report/charts.py": ("POINTS = 80", "POINTS = 90"),
    }
    before = {name: (copy / name).read_text() for name in changes}
    for name, (old, new) in changes.items():
        assert old in before[name]
        (copy / name).write_text(before[name].replace(old, new, 1))
    run(copy, "python", "-m", "flows.environment")
    found = due(copy)
    for name, text in before.items():
        (copy / name).write_text(text)
    run(copy, "python", "-m", "flows.environment")

    assert found == {"synthesize@stage-fabric", "evaluate"}  # of the one, and of the other


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ("base.json", {"pretrain"}),
        ("weights.json", {"segment@fabric"}),
        ("images.txt", {"prepare"}),
        ("packages.json", {"prepare", "pretrain", "train@fabric", "synthesize@paste-fabric", "segment@fabric", "evaluate"}),
    ],
)
def test_a_change_outside_the_project_is_noticed(copy: Path, first: str, noted: str, expected: set[str]) -> None:
    """An upgraded library, or weights or photographs that changed in their folder, would leave the old data in place."""
    file = copy / "data/environment" / noted
    before = file.read_bytes()
    file.write_text("something else\n")
    found = due(copy)
    file.write_bytes(before)

    assert expected <= found
    assert noted == "packages.json" or len(found) <= len(expected) + 1  # evaluate


def test_what_decides_results_is_noted(copy: Path, first: str) -> None:
    """DVC compares what is written down here, and nothing else outside the project."""
    noted = json.loads((copy / "data/environment/packages.json").read_text())

    assert noted["torch"] == importlib.metadata.version("torch")
    assert {"onedl-mmsegmentation", "diffusers", "numpy"} <= set(noted)


def test_a_wrong_parameter_is_one_message(copy: Path, first: str) -> None:
    """A typing error in params.yaml would end in a page of Python."""
    before = (copy / "params.yaml").read_text()
    change(copy / "params.yaml", {"seed": -1})
    said = run(copy, "python", "-m", "flows.environment", status=1)
    (copy / "params.yaml").write_text(before)

    assert "Expected the keys and types" in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def ablated(copy: Path, first: str) -> dict[str, Any]:
    """The results of one category's ablation, by configuration; `dvc repro` before it left that alone."""
    assert not [name for name in ran(first) if "ablate" in name]
    assert due(copy, "ablation/dvc.yaml:ablate@fabric") == {"ablate@fabric"}
    run(copy, "dvc", "repro", "--single-item", "ablation/dvc.yaml:ablate@fabric")
    results = json.loads((copy / "data/ablate/fabric/ablations.json").read_text())
    return {one["label"]: one for one in results["configurations"]}


def test_the_ablation_trains_what_differs_and_takes_the_rest_from_the_main_run(copy: Path, ablated: dict[str, Any]) -> None:
    """The bars would compare something else than what the report describes, or every training would be made seven times."""
    main = json.loads((copy / "data/segment/fabric/metrics.json").read_text())
    samples = json.loads((copy / "data/synthesize/fabric/stage/manifest.json").read_text())
    trainings = {label: one["checkpoint"] for label, one in ablated.items()}

    assert ablated["STAGE"]["metrics"] == main["real_and_stage"]
    assert ablated["STAGE"]["samples"]["digest"] == samples["digest"]
    assert trainings["STAGE"] == trainings["+ MGA + AIF + EMA"] != trainings["baseline"]
    assert len({one["samples"]["digest"] for one in ablated.values()}) == 3


def test_an_unfinished_ablation_finds_its_parts(copy: Path, ablated: dict[str, Any]) -> None:
    """A day of work would be made again, by the ablation or by the main run after it."""
    before = (copy / "data/ablate/fabric/ablations.json").read_bytes()
    shutil.rmtree(copy / "data/ablate/fabric")
    resumed = run(copy, "python", "-m", "flows.ablate", "fabric")

    assert not [line for line in resumed.splitlines() if ": 0/" in line]
    assert (copy / "data/ablate/fabric/ablations.json").read_bytes() == before
    assert list((copy / ".spool/train/fabric").iterdir())


def test_dvc_shows_metrics_and_plots(copy: Path, first: str) -> None:
    """People could not look at the numbers with the tool they know."""
    metrics = json.loads(run(copy, "dvc", "metrics", "show", "--json"))
    run(copy, "dvc", "plots", "show", "-o", "plots")

    assert "iou" in metrics[""]["data"]["data/evaluate/metrics.json"]["data"]["real_only"]
    assert (copy / "plots/index.html").is_file()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"segment": {"iterations": 4}, "execution": {"save_every_s": 7.0}}, {"segment@fabric", "evaluate"}),
        (
            {"synthesize": {"clamp": False}},
            {"synthesize@stage-fabric", "synthesize@paste-fabric", "evaluate"},
        ),
    ],
)
def test_a_parameter_reruns_exactly_the_stages_that_read_it(copy: Path, first: str, values: dict[str, Any], expected: set[str]) -> None:
    """A change would leave old data in place, or remake what it does not touch."""
    before = (copy / "params.yaml").read_text()
    change(copy / "params.yaml", values)
    found = due(copy)
    (copy / "params.yaml").write_text(before)

    assert found == expected


def test_no_category_depends_on_another() -> None:
    """A nightly run would remake fourteen categories because of one new photograph; a base from scratch, trained on all, does."""
    needed = {stage.addressing: {Path(str(needed)) for needed in stage.deps} for stage in Repo(str(ROOT)).index.stages}
    fabric = {name: paths for name, paths in needed.items() if name.endswith("fabric")}

    assert len(fabric) == 6  # train, synthesize three times, segment, ablate
    for name, paths in fabric.items():
        assert Path("data/prepare/fabric") in paths, name
        assert not [path for path in paths if "washer" in path.parts or path == Path("data/prepare")], name


def test_a_changed_statement_of_one_method_remakes_its_samples_and_what_follows(copy: Path, first: str) -> None:
    """A corrected method would leave its old samples in place, or a training would be made again for it.

    The last test, since it leaves the copy with other samples.
    """
    source, manifest = copy / "stage/synthesis/methods/paste.py", copy / "data/synthesize/fabric/paste/manifest.json"
    text, samples = source.read_text(), manifest.read_bytes()
    altered = text.replace("pasted(defect, background", "pasted(defect._replace(image=255 - defect.image), background")
    assert altered != text
    source.write_text(altered)  # what draws the samples alone: the verdict on every method's samples calls `pasted`, too
    output = run(copy, "dvc", "repro", "synthesize")
    with chdir(copy):
        params = load_params()
        trainings = planned_trainings("fabric", params)
        again = [trainings[number].choice.name for number in unfinished("fabric", trainings, params)]

    assert ran(output) == ["synthesize@paste-fabric"]
    assert manifest.read_bytes() != samples
    assert due(copy) == {"segment@fabric", "evaluate"}
    assert len(trainings) == 3
    assert again == ["real_and_paste"]
