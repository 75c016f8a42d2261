"""The ablation of one category: every configuration trained, sampled and judged by its segmenter, with all else equal."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefect import flow
from rich.console import Console

from flows.runtime import run
from flows.segment import OUTPUT as SCORES
from flows.segment import score, sides, workplace
from flows.segment import train as train_arm
from flows.synthesize import OUTPUT as SAMPLES
from flows.synthesize import plan
from flows.synthesize import publish as publish_samples
from flows.train import OUTPUT as CHECKPOINTS
from flows.train import fine_tune
from flows.workers import make_all
from stage.ablation.configurations import RESULTS, SPECIMENS, Configuration, load_configurations, variants, write_specimens
from stage.core.digests import file_digest
from stage.core.params import Params, load_params
from stage.core.work import SPOOL, publish, spool_folder, work_key
from stage.model.checkpoints import WEIGHTS
from stage.release.reader import read_manifest
from stage.release.verification import verify

OUTPUT = Path("data/ablate")
TRAIN, SEGMENT = PARTS = "ablate-train", "ablate-segment"  # in the spool, beside the main run's


class Made(NamedTuple):
    """A configuration, and the folders of its checkpoint, samples and scores; no scores where no sample was accepted."""

    configuration: Configuration
    checkpoint: Path
    samples: Path
    scores: Path | None


@flow(name="ablate")
def ablate(category: str) -> None:
    """Make every configuration in turn, publish the numbers and some samples of each."""
    params = load_params()
    made: list[Made] = []
    planned = variants(params, load_configurations())
    for number, (configuration, variant) in enumerate(planned, 1):
        Console(stderr=True).print(
            f"{category}, configuration {number} of {len(planned)}: {configuration.label}", highlight=False, markup=False
        )
        made.append(make(category, configuration, variant, params))
    publish(gather(category, made), OUTPUT / category)
    drop_older(category, made)


def make(category: str, configuration: Configuration, variant: Params, params: Params) -> Made:
    """One configuration; the one that overrides nothing is the main run, whose results are taken as they are."""
    if not configuration.overrides:
        return Made(configuration, CHECKPOINTS / category, SAMPLES / category, SCORES / category)
    checkpoint = checkpoint_of(category, variant, params)
    samples = samples_of(category, checkpoint, variant)
    return Made(configuration, checkpoint, samples, scores_of(category, samples, variant))


def checkpoint_of(category: str, variant: Params, params: Params) -> Path:
    """The main run's checkpoint where the training is the same, else one of the ablation's, which the next configuration finds again."""
    if (variant.method, variant.train) == (params.method, params.train):
        return CHECKPOINTS / category
    return fine_tune(category, variant, verb=TRAIN)


def samples_of(category: str, checkpoint: Path, variant: Params) -> Path:
    """The samples of a configuration, in the folder of their job; those that an earlier run published there are taken as they are."""
    job = plan(category, checkpoint, variant)
    samples = job / "samples"
    if verify(samples):  # not there, or not whole
        make_all(job, variant.execution)
        publish_samples(job, samples)
    return samples


def scores_of(category: str, samples: Path, params: Params) -> Path | None:
    """A segmenter trained on the real third and these samples, and scored; nothing where none of them was accepted."""
    if not read_manifest(samples)["accepted"]:
        return None
    _, arm = sides(category, samples)
    folder = workplace(category, samples, params, verb=SEGMENT)
    train_arm(arm, folder, params)
    score(category, [arm.name], folder / "new", params)
    return folder / "new"


def gather(category: str, made: Sequence[Made]) -> Path:
    """The numbers of all configurations, and some samples of each to look at, in a folder of the spool."""
    results = {"category": category, "real_only": metrics(SCORES / category)["real_only"], "configurations": [summary(one) for one in made]}
    folder = spool_folder("ablate", category, work_key(results)) / "new"
    write_specimens({one.configuration.name: one.samples for one in made}, folder / SPECIMENS)
    (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
    return folder


def summary(one: Made) -> dict[str, Any]:
    """What is said of a configuration: its overrides, what it was made from, and its metrics."""
    return {
        **one.configuration.model_dump(),
        "checkpoint": file_digest(one.checkpoint / WEIGHTS),
        "samples": {key: value for key, value in read_manifest(one.samples).items() if key != "shards"},
        "metrics": metrics(one.scores)["real_and_synthetic"] if one.scores else None,
    }


def metrics(scores: Path) -> dict[str, dict[str, float]]:
    """The metrics of a folder of scores, by arm."""
    return json.loads((scores / "metrics.json").read_text())


def drop_older(category: str, made: Sequence[Made]) -> None:
    """Remove trainings of other settings from the spool; this run's stay, so that a changed configuration costs only itself.

    Samples lie with their jobs, which `stage gc` removes.
    """
    used = {folder.parent for one in made for folder in (one.checkpoint, one.scores) if folder}
    for older in {path for part in PARTS for path in (SPOOL / part / category).glob("*")} - used:
        shutil.rmtree(older)


if __name__ == "__main__":
    run(ablate)
