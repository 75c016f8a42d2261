"""The digest of the code: it changes with what makes a result, and with nothing else."""

import importlib.util
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType

import pytest
from small_factory import Factory, build, verdict

from flows import environment, pretrain, scoring, segment
from flows.train import CODE as TRAINING
from stage.core.code_digest import ASIDE, Definition, code_digest, code_digests, reachable
from stage.datasets.examples import defect_images
from stage.datasets.table import read_catalog
from stage.model.base import load_base
from stage.model.checkpoints import save_checkpoint
from stage.model.training import train
from stage.release.publication import publish_jobs
from stage.synthesis.batch import write_batch
from stage.synthesis.calibration import calibrate
from stage.synthesis.judge import Judge
from stage.synthesis.method import METHODS
from stage.synthesis.source import read_source

ROOT = Path(__file__).parents[1]
STAGE, PASTE = METHODS["stage"].rendering, METHODS["paste"].rendering


def digest_of(root: Path, functions: tuple[str, ...] = STAGE) -> str:
    """As a checkout in `root` has it; a copy without a change has that of the project itself."""
    return code_digest(*functions) if root == ROOT else changed_digest(root, functions)


def changed_digest(root: Path, functions: tuple[str, ...]) -> str:
    return copied(root).code_digest(*functions)


def copied(root: Path) -> ModuleType:
    """The module of a checkout, which reads each of its files once, as they are then."""
    spec = importlib.util.spec_from_file_location("copied_code_digest", root / "stage/core/code_digest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "stage", tmp_path / "stage", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("model/diffusion.py", "    return ", "    return 1.0 * "),
        ("model/schedule.py", "CLEAN = ", "CLEAN = 0 + "),
        ("synthesis/quality.py", '"empty mask"', '"no mask"'),
        ("synthesis/batch.py", "backgrounds = ", "photographs = backgrounds = "),
        ("datasets/resize.py", "    return ", "    return None or "),
        ("synthesis/perlin.py", "import numpy as np", "import numpy.ma as np"),
        (
            "synthesis/quality.py",
            "import components, dilated",
            "import dilated as components, components as dilated",
        ),
    ],
)
def test_statements_that_make_samples_count(checkout: Path, file: str, before: str, after: str) -> None:
    """After a correction, the samples that the mistake had made would be taken up."""
    expected = digest_of(ROOT)

    edit(checkout / "stage" / file, before, after)

    assert digest_of(checkout) != expected


def test_statements_that_make_no_sample_do_not_count(checkout: Path) -> None:
    """A word in the report would throw a night's samples away."""
    expected = digest_of(ROOT)

    for file in ("report/pages", "release/shards", "core/work", "model/training", "core/params", "core/section"):
        edit(checkout / f"stage/{file}.py", "    return ", "    return None or ")

    assert digest_of(checkout) == expected


def test_a_parameter_counts_by_its_value_and_not_by_its_declaration(checkout: Path) -> None:
    """A parameter that is added for one method would make the samples of all again."""
    expected = digest_of(ROOT)

    edit(checkout / "stage/core/synthesis_params.py", "    clamp: bool\n", "    clamp: bool\n    added: bool\n")

    assert digest_of(checkout) == expected


def test_a_function_that_nobody_calls_does_not_count(checkout: Path) -> None:
    """Two results that share a module would be made again for each other's changes."""
    expected = digest_of(ROOT)

    with (checkout / "stage/model/diffusion.py").open("a") as source:
        source.write("\n\ndef added() -> int:\n    return 1\n")

    assert digest_of(checkout) == expected


def test_comments_docstrings_and_layout_do_not_count(checkout: Path) -> None:
    """A corrected sentence would throw a night's samples away."""
    expected = digest_of(ROOT)

    for source in (checkout / "stage").rglob("*.py"):
        text = re.sub(r'(def \w+\([^\n]*:\n    """)', r"\1Changed: ", source.read_text())
        source.write_text("# a comment\n\n\n" + text + "\n\n")

    assert digest_of(checkout) == expected


def test_a_moved_module_does_not_count(checkout: Path) -> None:
    """Tidying the house would cost a night."""
    expected = digest_of(ROOT)

    (checkout / "stage/datasets/resize.py").rename(checkout / "stage/core/resize.py")
    for source in (checkout / "stage").rglob("*.py"):
        source.write_text(source.read_text().replace("stage.datasets.resize", "stage.core.resize"))

    assert digest_of(checkout) == expected


def test_a_name_that_a_module_only_passes_on_is_refused(checkout: Path) -> None:
    """A change of the function itself would not count; or every run end in an error that names no module."""
    edit(checkout / "stage/synthesis/batch.py", "\nfrom ", "\nfrom stage.synthesis.quality import components\nfrom ")
    edit(checkout / "stage/synthesis/batch.py", "backgrounds = ", "backgrounds = components and ")

    with pytest.raises(AssertionError, match=r"stage\.synthesis\.quality only passes components on"):
        digest_of(checkout)


def test_each_method_has_a_digest_of_its_own(checkout: Path) -> None:
    """A change of one method would make the samples of all. How `paste` pastes counts for all: so does the verdict's nothing."""
    stage, paste = digest_of(ROOT), digest_of(ROOT, PASTE)

    edit(checkout / "stage/synthesis/methods/stage.py", "min(k, len(rows) - 1)", "max(k, len(rows) - 1)")

    assert digest_of(checkout) != stage
    assert digest_of(checkout, PASTE) == paste


def test_what_a_renderer_is_built_on() -> None:
    """A function that makes pixels would be forgotten, or one that has nothing to do with them count."""
    modules = {one.module for one in reachable(*STAGE)}

    assert {
        "stage.model.diffusion",
        "stage.model.schedule",
        "stage.model.codec",
        "stage.model.checkpoints",
        "stage.synthesis.quality",
    } <= modules
    assert not {one for one in modules if one.startswith(("stage.jobs", "stage.release", "stage.report"))}
    networks = {one for one in {one.module for one in reachable(*PASTE)} if one.startswith("stage.model")}
    assert networks == {"stage.model.efficientnet", "stage.model.base_pointer"}  # the verdict's eye; which methods a mark calls trained


@pytest.mark.parametrize("name", list(METHODS))
def test_planning_and_rendering_are_told_apart(name: str) -> None:
    """A changed plan of the same rows would render them again."""
    assert reachable(*METHODS[name].planning) - reachable(*METHODS[name].rendering)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


def definitions_run(act: Callable[[], object]) -> set[Definition]:
    """Every function and class of `stage` that runs while `act` does, by its name at the top of its module."""
    ran: set[Definition] = set()
    places = {str(path): ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "stage").rglob("*.py")}

    def note(frame: FrameType, _event: str, _value: object) -> None:
        if module := places.get(frame.f_code.co_filename):
            ran.add(Definition(module, frame.f_code.co_qualname.split(".")[0]))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {one for one in ran if one.module not in ASIDE and not one.name.startswith("<")}


@pytest.fixture(scope="module")
def calibration(factory: Factory) -> tuple[Judge, set[Definition]]:
    """A judge, and what runs for it, whichever method's samples it is to judge."""
    recipe, catalog, source, made = factory.recipe(verdict=verdict(0.5)), read_catalog(factory.catalog), factory.source(), list[Judge]()
    ran = definitions_run(lambda: made.append(calibrate(recipe, catalog, source)))
    return made[0], ran


@pytest.mark.parametrize("name", list(METHODS))
def test_everything_that_runs_for_a_sample_is_counted(
    factory: Factory, calibration: tuple[Judge, set[Definition]], tmp_path: Path, name: str
) -> None:
    """A correction would not reach the samples, and nobody would hear of it."""
    job = factory.job(tmp_path, method=name)
    rows, origin = job.rows(0), job.origin(job.batches()[0].key)
    judge, ran = calibration

    def render() -> None:
        renderer, source = METHODS[name].renderer(job.recipe, "cpu"), read_source(job.recipe.catalog)
        write_batch(renderer, rows, source, judge, origin=origin, file=tmp_path / "batch")

    ran = ran | definitions_run(render)

    assert {one.module for one in ran} > {"stage.synthesis.batch", "stage.synthesis.calibration", f"stage.synthesis.methods.{name}"}
    assert not ran - reachable(*METHODS[name].rendering, "stage.synthesis.method:Method")


def test_everything_that_runs_for_a_training_is_counted(factory: Factory, tmp_path: Path) -> None:
    """A correction would not reach the checkpoints."""
    base = factory.data / "pretrain/base"
    params = factory.params.model_copy(update={"train": factory.params.train.model_copy(update={"iterations": 1})})

    def fit() -> None:
        images = defect_images(factory.catalog.parent, "plate")
        result = train(load_base(base), images, params, state=tmp_path / "state.safetensors")
        save_checkpoint(result.generator, result.bounds, base, tmp_path, with_unet=False)

    ran = definitions_run(fit)

    assert Definition("stage.model.loss", "StageLoss") in ran
    assert not ran - reachable(TRAINING)


def test_everything_that_runs_for_a_publication_is_counted(factory: Factory, tmp_path: Path) -> None:
    """DVC would hold tables for current that other code wrote."""
    jobs = factory.fill_rounds(factory.job(tmp_path))
    ran = definitions_run(lambda: publish_jobs([job.folder for job in jobs], tmp_path / "out", lease_s=60.0))

    assert Definition("stage.release.shards", "write_shards") in ran
    assert not ran - reachable(*environment.CODE["synthesize-stage"])


def test_a_dvc_stage_counts_its_flow_and_what_lies_below() -> None:
    """A changed flow would run nothing."""
    counted = {line.split()[0] for line in code_digests(*environment.CODE["synthesize-paste"])}

    assert {"synthesize", "make_all", "publish_jobs", "PasteRenderer", "verdict_on", "calibrate"} <= counted
    assert "StageRenderer" not in counted


@pytest.mark.parametrize(
    ("verb", "entries", "file", "before", "after"),
    [
        ("train", (TRAINING,), "stage/model/base.py", "    return base.freeze()", "    return base"),
        ("train", (TRAINING,), "flows/train.py", "defect_images(catalog, category)", "defect_images(catalog, category)[:1]"),
        ("segment", (scoring.CODE,), "flows/scoring.py", "accepted_only=True", "accepted_only=False"),
        ("segment", (scoring.CODE,), "stage/segmentation/batches.py", "params.batch - params.normal", "params.batch - params.normal - 0"),
        ("segment", (segment.TABLES,), "stage/segmentation/published.py", "pd.concat(", "pd.concat(2 * "),
        ("pretrain", (pretrain.CODE,), "flows/pretrain.py", "seed=params.seed", "seed=1 + params.seed"),
    ],
)
def test_what_runs_a_dvc_stage_again_makes_its_result_again(
    checkout: Path, verb: str, entries: tuple[str, ...], file: str, before: str, after: str
) -> None:
    """DVC would run the flow, which would find the old result under its old key."""
    shutil.copytree(ROOT / "flows", checkout / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    edit(checkout / file, before, after)
    changed = copied(checkout)

    assert changed.code_digest(*environment.CODE[verb]) != code_digest(*environment.CODE[verb])
    assert changed.code_digest(*entries) != code_digest(*entries)
