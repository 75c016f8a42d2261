"""Train a segmenter of one category on each arm, and score all of them on real defects that no earlier step has seen."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
from stage.release.reader import accepted_ids, read_manifest, read_samples
from stage.release.uses import check_samples
from stage.segmentation.arms import Arm, ArmChoice, arm_choices, make_arm

CATALOGS = Path("data/prepare")
SAMPLES = Path("data/synthesize")
OUTPUT = Path("data/segment")
CODE, GATHERING = "flows.segment:score", "flows.segment:side_by_side"
GATHERED = "gathered"  # in the spool, the folder of all arms together beside those of the arms
METRICS, CURVE, PREDICTIONS = "metrics.json", "curve.csv", "predictions.parquet"


class Scored(NamedTuple):
    """An arm that was trained and scored: its name, and the work that holds its weights, curve, metrics and predictions."""

    arm: str
    work: Work


@flow(name="segment")
def segment(category: str) -> None:
    """Train on the real third alone, then with each method's samples; score; publish all arms together."""
    params = load_params()
    check_samples(CATALOGS, category, [SAMPLES / category / method for method in params.methods])
    choices = arm_choices(params.methods, params.segment.arms)
    scored = [score(category, one, SAMPLES / category / one.method if one.method else None, params) for one in choices]
    side_by_side(category, scored).publish(OUTPUT / category)


@task(cache_policy=NO_CACHE)
def score(category: str, choice: ArmChoice, samples: Path | None, params: Params, *, verb: str = "segment") -> Scored:
    """One arm; resumes an unfinished training, or finds a finished one. `samples`: the folder published by the arm's method, if it has one."""
    work = Work.of(verb, f"{category}/{choice.name}", arm_key(category, choice, samples, params))
    if not work.is_finished():
        with present(work.folder, lease_s=params.execution.lease_s):
            train_and_score(arm_of(category, choice, samples), category, work, params)
    return Scored(choice.name, work)


def arm_key(category: str, choice: ArmChoice, samples: Path | None, params: Params) -> str:
    """The key of everything that decides an arm's metrics; of the samples, pixels and verdicts count, not who made them or when."""
    return work_key(
        CODE,
        seed=params.seed,
        segment={**dict(params.segment), "arms": None},  # which arms stand beside it decides nothing
        choice=choice._replace(name="", method=""),
        libraries=versions(SEGMENTERS),
        catalog=file_digest(CATALOGS / category / CATALOG),
        samples=[read_manifest(samples)["digest"], accepted_ids(samples)] if samples else None,
    )


def arm_of(category: str, choice: ArmChoice, samples: Path | None) -> Arm:
    """The pairs that an arm is trained on."""
    real, normal = (pairs_of(CATALOGS / category, "train", good=good) for good in (False, True))
    synthetic = read_samples(samples, accepted_only=True) if samples else ()
    return make_arm(choice, normal, real, synthetic)


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
    pq.write_table(pa.table({"picture": pa.array(result.predictions, pa.binary())}), work.draft / PREDICTIONS)
    write_whole(json.dumps(result.metrics, indent=2) + "\n", work.draft / METRICS)
    work.finish()


def side_by_side(category: str, scored: Sequence[Scored]) -> Work:
    """The arms of a category side by side: metrics by arm, curves, weights, and predictions of the defective test images."""
    work = Work.of("segment", f"{category}/{GATHERED}", work_key(GATHERING, arms=[one.work.folder.name for one in scored]))
    if not work.is_finished():
        from stage.segmentation.evaluation import write_predictions  # here, because finished arms need no networks

        work.draft.mkdir(exist_ok=True)
        metrics = {one.arm: json.loads((one.work.result / METRICS).read_text()) for one in scored}
        write_whole(json.dumps(metrics, indent=2) + "\n", work.draft / METRICS)
        pd.concat([pd.read_csv(one.work.result / CURVE) for one in scored]).to_csv(work.draft / CURVE, index=False)
        pictures = {one.arm: pq.read_table(one.work.result / PREDICTIONS)["picture"].to_pylist() for one in scored}
        write_predictions(pairs_of(CATALOGS / category, "test", good=False), pictures, work.draft / PREDICTIONS)
        for one in scored:
            shutil.copy2(one.work.result / f"{one.arm}.safetensors", work.draft)
        work.finish()
    return work


if __name__ == "__main__":
    run(segment)
