"""`stage ...`: what people type, from the root of the project, and what they are told when it cannot work."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import refused, run
from test_results import differences, scores

from stage.chaos.miniature import SIZE, draw
from stage.core.errors import DataError
from stage.core.params import load_params
from stage.datasets.pairs import write_table
from stage.datasets.table import COLUMNS
from stage.segmentation.counts import probability_of
from stage.segmentation.metrics import HALF
from stage.segmentation.results import gather_results, write_results

ROOT = Path(__file__).parents[1]
VERBS = (
    "use-data",
    "use-methods",
    "use-errors",
    "groups",
    "demo-data",
    "export",
    "contact-sheet",
    "results",
    "tables",
    "ablation",
    "plan",
    "worker",
    "verify",
    "lineage",
    "recall",
    "gc",
    "chaos",
    "nightly",
    "status",
    "retain",
    "doctor",
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has nothing of the project but its parameter file."""
    (tmp_path / "project").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def metrics(project: Path) -> None:
    """What `evaluate` would have published of one category and two methods."""
    (project / "data" / "evaluate").mkdir(parents=True)
    arms = {"real_only": 0.25, "real_and_stage": 0.5, "real_and_paste": 0.125}
    drawn = {arm: [arms[arm] - 0.25 + change for change in (-0.01, 0.01)] for arm in ("real_and_stage", "real_and_paste")}
    segmented = project / "data" / "segment" / "bolt"
    segmented.mkdir(parents=True)
    at_half = scores("bolt", arms).query("metric == 'iou'").assign(metric="threshold", value=probability_of(HALF))
    pd.concat([scores("bolt", arms), at_half]).to_parquet(segmented / "scores.parquet")
    pd.concat([differences(draws, arm=arm) for arm, draws in drawn.items()]).to_parquet(segmented / "differences.parquet")
    write_results(gather_results(project / "data", ("bolt",)), project / "data" / "evaluate")


def test_help_lists_every_verb() -> None:
    """Nobody would find them."""
    result = run("--help")

    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    """A user would have to read the code."""
    result = run(verb, "--help")

    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.usefixtures("metrics")
def test_results_for_machines_are_json() -> None:
    """A script could not read them."""
    told = json.loads(run("results", "--json").output)

    assert (told["scores"][0]["arm"], told["scores"][0]["value"]) == ("real_only", 0.25)
    assert {one["difference"] for one in told["differences"]} == {0.25, -0.125}


@pytest.mark.usefixtures("metrics")
def test_results_for_people_are_a_table() -> None:
    """One would have to read JSON."""
    output = run("results").output

    assert "bolt" in output
    assert "Samples of stage help: AP, which decides, +25.0" in output
    assert max(map(len, output.splitlines())) <= 100
    assert "Samples of paste harm" in output
    assert "IoU is at a threshold of one half in every arm, which mixes calibration into it" in " ".join(output.split())


@pytest.mark.usefixtures("metrics")
def test_results_of_other_parameters_say_so(project: Path) -> None:
    """After `stage use-methods`, a user would take the old comparison for the new one."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    evaluated = {name: values[name] for name in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]["params"]}
    lock = {"schema": "2.0", "stages": {"evaluate": {"cmd": "x", "params": {"params.yaml": evaluated}}}}
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))

    assert "dvc repro" not in run("results").output
    run("use-methods", "paste", "quilt")
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("  folds: 0 ", "  folds: 2 "))
    assert "older than a change in params.yaml, of methods, segment.folds. Run `dvc repro`" in " ".join(run("results").output.split())


def test_use_data_writes_the_parameters_and_says_so(tmp_path: Path) -> None:
    """`make run DATA=...` would run the demo."""
    folder = tmp_path / "[bold]images[/]"  # rich would take it for markup
    draw(folder, SIZE)

    result = run("use-data", str(folder), "--licence", "CC BY 4.0")

    params = load_params()
    assert (params.categories, params.prepare.layout, params.prepare.source) == (("part",), "mvtec", str(folder))
    assert params.prepare.licence == "CC BY 4.0"
    assert result.stdout == f"params.yaml now reads part (mvtec) from {folder}.\n"


def test_use_data_says_what_lies_beside_the_images(tmp_path: Path) -> None:
    """Samples of licensed photographs would be passed on as of an unknown licence; and nobody would know whether groups were found."""
    draw(tmp_path / "images", SIZE)
    told = run("use-data", str(tmp_path / "images")).stdout
    assert "prepare.licence is now unknown, since no file such as LICENSE there names one; `--licence`" in told

    (tmp_path / "images/License.txt").write_text("\n  Attribution-ShareAlike 4.0 International\n\nThe terms\n")
    (tmp_path / "images/part/groups.csv").write_text("file,group\n" + "".join(f"test/crack/00{one}.png,a\n" for one in range(2)))
    told = run("use-data", str(tmp_path / "images")).stdout

    assert load_params().prepare.licence == "Attribution-ShareAlike 4.0 International"
    assert f"Attribution-ShareAlike 4.0 International, the first line of {tmp_path}/images/License.txt;" in told
    assert f"part: {tmp_path}/images/part/groups.csv puts 2 images into 1 group, which the split keeps whole." in told
    assert "a folder of images; of layout demo, the code that draws it" in Path("params.yaml").read_text()


def test_photographs_at_the_scale_of_the_demo_are_warned_of(tmp_path: Path, project: Path) -> None:
    """Hours of a run on real parts would go into pictures of 128 px, one training each, because a single line had been edited."""
    draw(tmp_path / "images", SIZE)

    edited = run("use-data", str(tmp_path / "images")).stderr
    assert edited.startswith("Caution: the scale in params.yaml is still the demo's (image_size 128, seeds 1, folds 0)")
    assert "`cp params/real-cpu.yaml params.yaml`" in edited
    shutil.copy(ROOT / "params/real-cpu.yaml", project / "params.yaml")
    assert run("use-data", str(tmp_path / "images")).stderr == ""


def test_a_folder_of_another_layout_is_taken_by_its_naming_rule(tmp_path: Path, project: Path) -> None:
    """A user who did what the refusal asks for would be refused again with the same words."""
    draw(tmp_path / "images", SIZE)
    for made, renamed in (("train/good", "fine"), ("test/crack", "bad_crack"), ("test/spot", "bad_spot"), ("ground_truth", "masks")):
        (tmp_path / "images/part" / made).rename(tmp_path / "images/part" / renamed)
    shutil.copytree(tmp_path / "images/part", tmp_path / "images/other")
    (tmp_path / "images/papers").mkdir()
    told = refused("use-data", str(tmp_path / "images"))
    assert "set prepare.layout to `folder` and write the patterns of prepare.folder (docs/data.md;" in told
    assert told.endswith(f"then run `stage use-data {tmp_path}/images` or `make run DATA={tmp_path}/images` again.")

    shutil.copy(ROOT / "params/real-cpu.yaml", project / "params.yaml")
    write_rule(project, "{category}/fine/{name}.*", "{category}/bad_{defect}/{name}.*", "{category}/masks/{defect}/{name}_mask.*")
    result = run("use-data", str(tmp_path / "images"))
    assert "params.yaml now reads other, part (folder) from" in result.stdout
    assert "Left out is papers" in result.stdout
    params = load_params()
    assert (params.categories, params.prepare.layout) == (("other", "part"), "folder")
    assert params.prepare.source == str(tmp_path / "images")

    write_rule(project, "fine/{name}.*", "bad_{defect}/{name}.*", "masks/{defect}/{name}_mask.*")
    assert "now reads part (folder)" in run("use-data", str(tmp_path / "images/part")).stdout
    write_rule(project, "{category}/none/{name}.*", "{category}/bad_{defect}/{name}.*", "{category}/masks/{defect}/{name}_mask.*")
    assert "Correct prepare.folder.normal, now '{category}/none/{name}.*'" in refused("use-data", str(tmp_path / "images"))


def write_rule(project: Path, normal: str, image: str, mask: str) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["prepare"]["layout"] = "folder"
    values["prepare"]["folder"] |= {"normal": normal, "test_normal": "", "image": image, "mask": mask}
    (project / "params.yaml").write_text(yaml.safe_dump(values))


def test_make_run_says_what_it_changed_only_if_it_did(project: Path) -> None:
    """After a typing error in the folder, a user would believe that params.yaml had been replaced."""
    for name in ("Makefile", "params"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, project / name)
    kept = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm begin"
    (project / "empty").mkdir()
    make = "make -o .venv/.installed run DATA=empty"  # as if .venv were there; its programs are this Python's
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"{kept} && {make}"], env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert "Expected the folders of one known layout in empty" in done.stderr
    assert "params/real-cpu.yaml" not in done.stdout
    assert (project / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize("given", ["", " DATA=nowhere"])
def test_make_run_looks_at_its_folder_before_it_sets_up(given: str, project: Path) -> None:
    """Three gigabytes would be fetched before a user learns that the folder was forgotten or misspelt."""
    shutil.copy(ROOT / "Makefile", project)
    make = ["bash", "-c", f"make run{given} PYTHON=none"]  # a setup would refuse such a Python
    done = subprocess.run(make, capture_output=True, text=True, timeout=60, check=False)

    assert done.stderr.startswith(f"Expected DATA to be a folder of images, found '{given.removeprefix(' DATA=')}'.")


def test_use_methods_writes_candidates_that_can_be_chosen_from(project: Path) -> None:
    """A user who does not know which method helps would have to know their names and what `folds` are, or lose a comment of the file."""
    text = (project / "params.yaml").read_text().replace("mixture: {} ", "mixture: {stage: 1, paste: 2} ")
    (project / "params.yaml").write_text(text)

    said = run("use-methods", "auto").output

    params = load_params()
    assert params.methods == ("paste", "cutpaste", "draem", "glass", "quilt")
    assert (params.segment.folds, params.segment.mixture) == (3, {})
    assert said.splitlines()[:3] == [
        "params.yaml now compares paste, cutpaste, draem, glass, quilt.",
        "No longer compared is stage, since `auto` is what needs no training; `stage use-methods auto stage` keeps it.",
        "segment.mixture has lost the shares of what is no longer compared.",
    ]
    assert said.splitlines()[3].startswith("segment.folds is 3.")
    changed = {
        (one, other) for one, other in zip(text.splitlines(), Path("params.yaml").read_text().splitlines(), strict=True) if one != other
    }
    assert {one.partition("#")[2] for one, _ in changed} == {other.partition("#")[2] for _, other in changed}
    assert {one.split(":")[0].strip() for one, _ in changed} == {"methods", "folds", "mixture"}
    run("use-methods", "auto", "stage")
    assert load_params().methods == ("paste", "cutpaste", "draem", "glass", "quilt", "stage")
    run("use-methods", "stage", "quilt")
    assert (load_params().methods, load_params().segment.folds) == (("stage", "quilt"), 3)
    assert "methods.0: Input should be" in refused("use-methods", "cutmix")
    assert load_params().methods == ("stage", "quilt")


@pytest.mark.parametrize(("parts", "folds"), [(3, 0), (4, 2), (6, 3), (40, 3)])
def test_auto_sets_only_folds_that_a_method_can_be_chosen_by(parts: int, folds: int, project: Path) -> None:
    """Every arm would be trained once more for each fold, for hours, and afterwards nothing could be chosen."""
    for category, count in (("fabric", parts), ("washer", 50)):
        named = [f"{category}/{number}.png" for number in range(count)]
        rows = [dict.fromkeys(COLUMNS) | {"defect": "hole", "split": "train", "status": "accepted", "group": name} for name in named]
        write_table(rows, COLUMNS, project / "data/prepare" / category / "catalog.parquet")

    said = run("use-methods", "auto").output

    assert load_params().segment.folds == folds
    assert ("fabric has 3 parts with real defects to train on, and a choice needs 4" in said) == (folds == 0)


def test_auto_in_the_file_is_answered_with_what_to_run(project: Path) -> None:
    """Someone who wrote the one word would be told of a type error."""
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("methods: [stage, paste, draem]", "methods: auto"))

    assert "run `stage use-methods auto`" in refused("plan")


def test_use_data_takes_the_categories_asked_for(tmp_path: Path) -> None:
    """A user of one category would wait for fifteen."""
    draw(tmp_path / "images", SIZE)
    shutil.copytree(tmp_path / "images" / "part", tmp_path / "images" / "other")

    run("use-data", str(tmp_path / "images"), "--category", "part")

    assert load_params().categories == ("part",)


def test_what_cannot_work_is_one_message(tmp_path: Path, project: Path) -> None:
    """A user would see a traceback, or the run would fail half an hour later."""
    draw(tmp_path / "images", SIZE)
    before = Path("params.yaml").read_text()

    assert refused("results").startswith("Expected the results of a finished run at data/evaluate/scores.parquet, found none.")
    assert refused("export").startswith("Expected a Parquet file at data/prepare/fabric/catalog.parquet, found none.")
    assert refused("use-data", str(tmp_path / "nowhere")).startswith("Expected a folder of images that may be read at")
    assert refused("use-data", str(project)).startswith("Expected the folders of one known layout in")
    assert refused("use-data", str(tmp_path / "images"), "--category", "nut").startswith("Expected categories among part, found nut")
    for verb in ("export", "plan", "verify"):
        told = "Expected categories among fabric, washer, found nut. Look into params.yaml."
        assert refused(verb, "--category", "nut", "--category", "washer") == told
    assert refused("plan").startswith("Expected a catalog at data/prepare/fabric/catalog.parquet, found none. Run `dvc repro prepare`.")
    assert refused("demo-data", str(project)).startswith("Expected an empty place or an earlier demo at")
    assert Path("params.yaml").read_text() == before


@pytest.mark.parametrize(
    "typed",
    [
        *("results", "fidelity", "fidelity fabric --measure", "tables", "contact-sheet sheet.png", "plan", "plan --no-measure", "verify"),
        *("preview paste fabric", "preview stage fabric", "use-errors", "groups fabric", "groups fabric --accept 1", "export"),
        *("export --chosen", "recall fabric/x.png --reason y", "retain --dry-run", "nightly", "lineage up stage/fabric/hole/000000/0"),
        *("lineage down fabric/x.png", "lineage diff v1 v2", "lineage diff HEAD workspace", "lineage reuse", "lineage leakage --all"),
        *("lineage why stage/fabric/hole/000000/0 HEAD workspace", "lineage orphans", "lineage recalled", "ablation"),
    ],
)
def test_every_verb_before_the_first_run_says_what_to_run_first(typed: str, project: Path) -> None:
    """A newcomer would see an error of Parquet's or git's, or be sent to a command that cannot work yet."""
    shutil.copytree(ROOT / "ablation", project / "ablation")
    shutil.copy(ROOT / "nightly.yaml", project)
    kept = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm begin"
    subprocess.run(["bash", "-c", kept], check=True)

    told = refused(*typed.split())

    assert re.fullmatch(r"Expected .+, found .+", told), told
    assert re.search(r"`(dvc repro|make ablation|make nightly-up|stage|git tag)[^`]*`", told)
    assert not re.search("[Ee]rrno|--force|fatal", told)


@pytest.mark.usefixtures("project")
def test_a_flow_started_by_hand_before_its_inputs_says_so_too() -> None:
    """Whoever starts one from the README's table of times would see a traceback."""
    from flows.pretrain import pretrain
    from flows.synthesize import synthesize
    from flows.train import train

    for start in (pretrain.fn, lambda: train.fn("fabric"), lambda: synthesize.fn("fabric", "paste")):
        with pytest.raises(
            DataError, match=r"Expected a catalog at data/prepare/fabric/catalog.parquet, found none. Run `dvc repro prepare`"
        ):
            start()


def test_a_folder_that_cannot_be_made_is_one_message() -> None:
    """A typing error in a path would end in a traceback."""
    Path("file").write_text("")

    assert "is a file. Name another place." in refused("demo-data", "file/below")


@pytest.mark.parametrize("verb", [("use-data", "."), ("export",), ("demo-data", "drawn")])
def test_outside_the_project_there_is_one_message(verb: tuple[str, ...], tmp_path: Path) -> None:
    """A traceback would not say that one only stands in the wrong folder."""
    Path("params.yaml").unlink()
    draw(tmp_path / "project", SIZE)

    assert refused(*verb).startswith("Expected a parameter file at")


def test_an_ablation_that_cannot_be_is_refused_before_it_begins(project: Path) -> None:
    """A night's main run would come first, and then the message that two of the configurations are the same."""
    shutil.copytree(ROOT / "ablation", project / "ablation")
    assert run("ablation", "--check").exit_code == 0
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("alignment: scheduled", "alignment: binary"))

    assert "MGA + AIF" in refused("ablation", "--check")


@pytest.mark.parametrize("typed", ["contact-sheet build/sheet", "lineage diff v1 v2 --sheet build/sheet.txt"])
def test_a_picture_that_cannot_be_written_is_refused_before_it_is_drawn(typed: str) -> None:
    """A user would wait for a picture, and see a traceback of Pillow."""
    assert re.match(
        r"Expected the name of a picture to draw, such as sheet\.png, found 'build/sheet.*'\. Name a file", refused(*typed.split())
    )
    assert not Path("build").exists()
