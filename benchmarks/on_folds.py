"""AP of the arms on folds of the training part, with several seeds: how a setting is chosen without a look at the test part.

`python -m benchmarks.on_folds CATEGORY SEEDS [ARM ...]`, such as `bottle 3 real_only real_and_stage`, from a project's root after
`dvc repro synthesize`; without arms, all of `segment`. `segment.folds` counts, or 2 where it is 0. A training that is finished is in the
spool, also one by `segment`; a killed one is resumed.
"""

import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from rich.console import Console
from rich.table import Table

from flows.scoring import CATALOGS, planned_trainings, score, training_samples
from stage.core.device import limit_threads
from stage.core.digests import derived_seed
from stage.core.params import Params, load_params
from stage.datasets.examples import pairs_of
from stage.segmentation.arms import REAL_ONLY, Training, arm_label
from stage.segmentation.choice import held_out, parts_to_hold_out, resampled_aps
from stage.segmentation.published import image_parts


def main(category: str, seeds: str, *arms: str) -> None:
    """Train what is not in the spool yet, and print a line for each arm."""
    params = with_folds(load_params())
    if (parts := parts_to_hold_out(Path("data"), [category]).get(category, 0)) < 2 * params.segment.folds:
        sys.exit(f"Expected {2 * params.segment.folds} groups of real defects or more, found {parts}, in the training part of {category}.")
    wanted = [one for one in planned_trainings(category, params) if one.fold >= 0 and (not arms or one.choice.name in arms)]
    planned = [one._replace(seed=seed) for seed in range(int(seeds)) for one in wanted]
    at_once = max(params.execution.trainings, 1)
    with multiprocessing.get_context("spawn").Pool(at_once, limit_threads, [max(1, params.execution.threads // at_once)]) as pool:
        results = dict(pool.imap(scored, [(category, one, params) for one in planned]))
    Console(width=120).print(table([seed_aps(category, results, seed, params) for seed in range(int(seeds))]))


def with_folds(params: Params) -> Params:
    """The parameters, with two folds where they have none."""
    return params.model_copy(update={"segment": params.segment.model_copy(update={"folds": params.segment.folds or 2})})


def scored(job: tuple[str, Training, Params]) -> tuple[Training, Path]:
    """A training, and the folder with the counts of the fold that it did not see."""
    category, training, params = job
    with ExitStack() as users:
        return training, score(category, training, training_samples(category, training, params), params, users).work.result


def seed_aps(category: str, results: Mapping[Training, Path], seed: int, params: Params) -> dict[str, np.ndarray]:
    """By arm: the mean AP of the types, the mean of the folds, and its resamples, (1 + R,)."""
    real = image_parts(pairs_of(CATALOGS / category, "train", good=False))
    folds = held_out({one: place for one, place in results.items() if one.seed == seed}, real, params.segment.folds)
    # The same draws for every seed, which sees the same images: drawn anew, their mean would look surer with every seed.
    random = np.random.default_rng(derived_seed(params.seed, category))
    found = [resampled_aps(fold, random) for fold in folds]
    return {arm: np.mean([aps[arm] for aps in found], axis=0) for arm in found[0]}


def table(seeds: Sequence[Mapping[str, np.ndarray]]) -> Table:
    """Each arm's AP, and its gain over real defects alone: the mean of the seeds, their spread, and the error over images."""
    shown = Table("arm", "AP of each seed", "mean", "gain", "spread of seeds", "error over images")
    for arm in seeds[0]:
        aps = [100 * float(aps[arm][0]) for aps in seeds]
        row = [arm_label(arm), " ".join(f"{ap:.1f}" for ap in aps), f"{fmean(aps):.1f}", "", "", ""]
        if arm != REAL_ONLY and REAL_ONLY in seeds[0]:
            gains = 100 * np.array([aps[arm] - aps[REAL_ONLY] for aps in seeds])
            row[3:] = [
                f"{gains[:, 0].mean():+.1f}",
                f"{stdev(gains[:, 0]):.1f}" if len(seeds) > 1 else "",
                f"{gains.mean(axis=0)[1:].std():.1f}",
            ]
        shown.add_row(*row)
    return shown


if __name__ == "__main__":
    main(*sys.argv[1:])
