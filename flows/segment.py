"""Train a segmenter of one category on each arm, and score all of them on real defects that no earlier step has seen."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.core.device import device
from stage.core.digests import file_digest
from stage.core.durable import write_whole
from stage.core.params import Params, load_params
from stage.core.progress import check_stop
from stage.core.work import SEGMENTERS, Work, versions, work_key
from stage.datasets.examples import CATALOG, pairs_of
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.release.reader import accepted_ids, read_manifest, read_samples
from stage.segmentation.arms import REAL_ONLY, Arm, arm_name, real_arm, with_samples

CATALOGS = Path("data/prepare")
SAMPLES = Path("data/synthesize")
OUTPUT = Path("data/segment")
CODE, GATHERING = "flows.segment:score", "flows.segment:side_by_side"
GATHERED = "gathered"  # in the spool, the folder of all arms together beside those of the arms
METRICS, CURVE, PROBABILITIES = "metrics.json", "curve.csv", "probabilities.npy"


class Scored(NamedTuple):
    """An arm that was trained and scored: its name, and the work that holds its weights, curve, metrics and probabilities."""

    arm: str
    work: Work


@flow(name="segment")
def segment(category: str) -> None:
    """Train on the real third alone, then with each method's samples; score; publish all arms together."""
    params = load_params()
    scored: list[Scored] = []
    with ExitStack() as users:
        for method in ("", *params.methods):
            scored.append(score(category, SAMPLES / category / method if method else None, params, method=method))
            users.enter_context(present(scored[-1].work.folder, lease_s=params.execution.lease_s))
        side_by_side(category, scored, params).publish(OUTPUT / category)


@task(cache_policy=NO_CACHE)
def score(category: str, samples: Path | None, params: Params, *, method: str = "", verb: str = "segment") -> Scored:
    """One arm; resumes an unfinished training, or finds a finished one. `samples`: a published folder, None for the real third alone."""
    name = arm_name(method) if samples else REAL_ONLY
    work = Work.of(verb, f"{category}/{name}", arm_key(category, samples, params))
    if not work.is_finished():
        with present(work.folder, lease_s=params.execution.lease_s):
            train_and_score(arm_of(category, samples, name), category, work, params)
    return Scored(name, work)


def arm_key(category: str, samples: Path | None, params: Params) -> str:
    """The key of everything that decides an arm's metrics; of the samples, pixels and verdicts count, not who made them or when."""
    return work_key(
        CODE,
        seed=params.seed,
        segment=params.segment,
        libraries=versions(SEGMENTERS),
        catalog=file_digest(CATALOGS / category / CATALOG),
        samples=[read_manifest(samples)["digest"], accepted_ids(samples)] if samples else None,
    )


def arm_of(category: str, samples: Path | None, name: str) -> Arm:
    """The pairs that an arm is trained on."""
    real, normal = (pairs_of(CATALOGS / category, "train", good=good) for good in (False, True))
    return with_samples(name, real, read_samples(samples, accepted_only=True), normal) if samples else real_arm(real, normal)


def train_and_score(arm: Arm, category: str, work: Work, params: Params) -> None:
    """Write weights, loss curve, metrics, and predictions for the defective test images as the work's result."""
    from stage.segmentation.evaluation import evaluate_arm  # here, because a finished arm needs no networks
    from stage.segmentation.training import train_segmenter

    on, weights = device(params.execution.device), work.draft / f"{arm.name}.safetensors"
    every_s = params.execution.save_every_s
    curve = train_segmenter(
        arm, params.segment, seed=params.seed, device=on, output=weights, state=work.folder / "state.safetensors", save_every_s=every_s
    )
    check_stop()
    defective, good = (pairs_of(CATALOGS / category, "test", good=good) for good in (False, True))
    result = evaluate_arm(weights, params.segment, defective=defective, good=good, device=on)
    curve.assign(arm=arm.name).to_csv(work.draft / CURVE, index=False)
    np.save(work.draft / PROBABILITIES, np.rint(result.probabilities * 255).astype(np.uint8), allow_pickle=False)
    write_whole(json.dumps(result.metrics, indent=2) + "\n", work.draft / METRICS)
    finish(work, lease_s=params.execution.lease_s)


def side_by_side(category: str, scored: Sequence[Scored], params: Params) -> Work:
    """The arms of a category side by side: metrics by arm, curves, weights, and predictions of the defective test images."""
    work = Work.of("segment", f"{category}/{GATHERED}", work_key(GATHERING, arms=[one.work.folder.name for one in scored]))
    if not work.is_finished():
        from stage.segmentation.evaluation import write_predictions  # here, because finished arms need no networks

        with present(work.folder, lease_s=params.execution.lease_s):
            work.draft.mkdir(exist_ok=True)
            metrics = {one.arm: json.loads((one.work.result / METRICS).read_text()) for one in scored}
            write_whole(json.dumps(metrics, indent=2) + "\n", work.draft / METRICS)
            pd.concat([pd.read_csv(one.work.result / CURVE) for one in scored]).to_csv(work.draft / CURVE, index=False)
            probabilities = {one.arm: np.load(one.work.result / PROBABILITIES, allow_pickle=False) for one in scored}
            write_predictions(pairs_of(CATALOGS / category, "test", good=False), probabilities, work.draft / "predictions.parquet")
            for one in scored:
                shutil.copy2(one.work.result / f"{one.arm}.safetensors", work.draft)
            finish(work, lease_s=params.execution.lease_s)
    return work


if __name__ == "__main__":
    run(segment)
