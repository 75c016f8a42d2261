"""Train the segmenter of one category on each arm, and score both on the real defects that nothing before has seen."""

import json
from pathlib import Path

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.arms import Arm, arms
from stage.device import device
from stage.digests import file_digest
from stage.durable import write_whole
from stage.examples import CATALOG, pairs_of
from stage.params import Params, load_params
from stage.predictions import write_predictions
from stage.progress import check_stop
from stage.published import read_samples
from stage.segmentation import evaluate_arm, train_segmenter
from stage.shards import MANIFEST
from stage.spool import publish, spool_folder, work_key

CATALOGS = Path("data/prepare")
SAMPLES = Path("data/synthesize")
OUTPUT = Path("data/segment")


@flow(name="segment")
def segment(category: str) -> None:
    """Train on both arms, score, publish."""
    params = load_params()
    samples = SAMPLES / category
    folder = workplace(category, samples, params, verb="segment")
    curves = {arm.name: train(arm, folder, params) for arm in sides(category, samples)}
    pd.concat(curves.values()).to_csv(folder / "new" / "curve.csv", index=False)
    score(category, list(curves), folder / "new", params)
    publish(folder / "new", OUTPUT / category)


def workplace(category: str, samples: Path, params: Params, *, verb: str) -> Path:
    """The folder of the verb's spool where segmenters for these samples are trained and scored."""
    digests = (file_digest(CATALOGS / category / CATALOG), file_digest(samples / MANIFEST))
    return spool_folder(verb, category, work_key(params.seed, params.segment, digests))


def sides(category: str, samples: Path) -> tuple[Arm, Arm]:
    """The real third alone, and with the accepted ones of a folder of samples."""
    real, normal = (pairs_of(CATALOGS / category, "train", good=good) for good in (False, True))
    return arms(real, read_samples(samples, accepted_only=True), normal)


@task(cache_policy=NO_CACHE)
def train(arm: Arm, folder: Path, params: Params) -> pd.DataFrame:
    """One arm; an unfinished training is resumed, a finished one read."""
    weights, curve_file = folder / "new" / f"{arm.name}.safetensors", folder / f"{arm.name}.csv"
    if not (weights.exists() and curve_file.exists()):  # else an earlier run that was interrupted finished this arm
        curve = train_segmenter(
            arm,
            params.segment,
            seed=params.seed,
            device=device(params.execution.device),
            output=weights,
            state_dir=folder,
            save_every_s=params.execution.save_every_s,
        )
        write_whole(curve.assign(arm=arm.name).to_csv(index=False), curve_file)
    return pd.read_csv(curve_file)


@task(cache_policy=NO_CACHE)
def score(category: str, arms_trained: list[str], folder: Path, params: Params) -> None:
    """Metrics and predictions of the arms on the test images, into `folder`."""
    check_stop()
    defective, good = (pairs_of(CATALOGS / category, "test", good=good) for good in (False, True))
    results = {
        name: evaluate_arm(
            folder / f"{name}.safetensors", params.segment, defective=defective, good=good, device=device(params.execution.device)
        )
        for name in arms_trained
    }
    (folder / "metrics.json").write_text(json.dumps({name: result.metrics for name, result in results.items()}, indent=2) + "\n")
    write_predictions(defective, {name: result.probabilities for name, result in results.items()}, folder / "predictions.parquet")


if __name__ == "__main__":
    run(segment)
