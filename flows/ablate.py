"""Ablate one category: train, sample and segment with every configuration, all else equal."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from prefect import flow
from rich.console import Console

from flows.runtime import run
from flows.scoring import CATALOGS
from flows.segment import OUTPUT as SCORES
from flows.segment import score_task
from flows.synthesize import OUTPUT as SAMPLES
from flows.synthesize import make_rounds, plan, publish_samples
from flows.train import OUTPUT as CHECKPOINTS
from flows.train import fine_tune
from stage.ablation.configurations import RESULTS, SPECIMENS, Configuration, load_configurations, variants, write_specimens
from stage.core.code_digest import code_digest
from stage.core.digests import file_digest
from stage.core.durable import write_whole
from stage.core.json_files import read_json
from stage.core.params import Params, load_params
from stage.core.work import Work, work_key
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.model.files import ADAPTERS
from stage.release.reader import read_manifest
from stage.release.uses import check_samples
from stage.release.verification import verify
from stage.segmentation.arms import REAL_ONLY, ArmChoice, Training, arm_name
from stage.segmentation.published import METRICS
from stage.segmentation.tables import mean_metrics

PUBLICATION = "stage.release.publication:publish_jobs"
METHOD = "stage"  # the method whose parts are switched off
OUTPUT = Path("data/ablate")
TRAIN, SEGMENT = "ablate-train", "ablate-segment"  # in the spool, beside the main run's


class ConfigurationResult(NamedTuple):
    """A configuration, the folders of its checkpoint and samples, and its metrics; None if no sample was accepted."""

    configuration: Configuration
    checkpoint: Path
    samples: Path
    metrics: dict[str, float] | None


@flow(name="ablate")
def ablate(category: str) -> None:
    """Run every configuration in turn; publish the numbers and some samples of each."""
    params = load_params()
    made: list[ConfigurationResult] = []
    planned = variants(params, load_configurations())
    with ExitStack() as users:
        for number, (configuration, variant) in enumerate(planned, 1):
            Console(stderr=True).print(
                f"{category}, configuration {number} of {len(planned)}: {configuration.label}", highlight=False, markup=False
            )
            made.append(made_with(category, configuration, variant, params, users))
        comparison(category, made, params, users).publish(OUTPUT / category)


def made_with(category: str, configuration: Configuration, variant: Params, params: Params, users: ExitStack) -> ConfigurationResult:
    """Run one configuration; one that changes nothing takes the main run's results as they are.

    Its works are in use until `users` ends. Raises DataError if an evaluation image went into its samples.
    """
    is_main = (variant.method, variant.train, variant.synthesize) == (params.method, params.train, params.synthesize)
    checkpoint = CHECKPOINTS / category if is_main else checkpoint_of(category, configuration, variant, params, users)
    samples = SAMPLES / category / METHOD if is_main else configuration_samples(category, checkpoint, variant, users)
    check_samples(CATALOGS, category, [samples])
    if is_main:
        return ConfigurationResult(configuration, checkpoint, samples, metrics(SCORES / category / METRICS)[arm_name(METHOD)])
    return ConfigurationResult(configuration, checkpoint, samples, scores_of(category, configuration, samples, variant, users))


def checkpoint_of(category: str, configuration: Configuration, variant: Params, params: Params, users: ExitStack) -> Path:
    """The main run's checkpoint if the training is the same, else the configuration's own, which the next run finds again."""
    if (variant.method, variant.train) == (params.method, params.train):
        return CHECKPOINTS / category
    return fine_tune(category, variant, users, verb=f"{TRAIN}-{configuration.name}", with_denoising=False).result


def configuration_samples(category: str, checkpoint: Path, variant: Params, users: ExitStack) -> Path:
    """The samples of a configuration, in the folder of their first job; those of an earlier run are verified and used again."""
    job = plan(category, METHOD, checkpoint, variant)
    users.enter_context(present(job, lease_s=variant.execution.lease_s))
    samples = job / f"samples-{code_digest(PUBLICATION)[:8]}"
    if verify(samples):  # missing or damaged
        publish_samples(make_rounds(job, variant, users), samples, variant)
    return samples


def scores_of(category: str, configuration: Configuration, samples: Path, params: Params, users: ExitStack) -> dict[str, float] | None:
    """Metrics of segmenters trained on the real third and these samples, averaged over seeds; None if no sample was accepted."""
    if not read_manifest(samples)["accepted"]:
        return None
    verb, arm, model = f"{SEGMENT}-{configuration.name}", ArmChoice(arm_name(METHOD), METHOD), params.segment.models[0]
    planned = [Training(arm, model, seed) for seed in range(params.segment.seeds)]
    return mean_metrics([score_task(category, one, {samples: 1.0}, params, users, verb=verb).work.result for one in planned])


def comparison(category: str, made: Sequence[ConfigurationResult], params: Params, users: ExitStack) -> Work:
    """The numbers of all configurations, and some samples of each to look at; in use until `users` ends."""
    real_only = metrics(SCORES / category / METRICS)[REAL_ONLY]
    results = {"category": category, "real_only": real_only, "configurations": [configuration_summary(one) for one in made]}
    work = Work.of("ablate", category, work_key("flows.ablate:comparison", results=results))
    users.enter_context(present(work.folder, lease_s=params.execution.lease_s))
    if not work.is_finished():
        write_specimens({one.configuration.name: one.samples for one in made}, work.draft / SPECIMENS)
        write_whole(json.dumps(results, indent=2) + "\n", work.draft / RESULTS)
        finish(work, lease_s=params.execution.lease_s)
    return work


def configuration_summary(one: ConfigurationResult) -> dict[str, Any]:
    """A configuration's entry in the results: its overrides, what it was made from, and its metrics."""
    return {
        **one.configuration.model_dump(),
        "checkpoint": file_digest(one.checkpoint / ADAPTERS),
        "samples": {key: value for key, value in read_manifest(one.samples).items() if key != "shards"},
        "metrics": one.metrics,
    }


def metrics(path: Path) -> Any:
    """The content of a file of metrics; raises CorruptFileError."""
    return read_json(path, dict[str, Any], what="metrics", mend="dvc repro segment")


if __name__ == "__main__":
    run(ablate)
