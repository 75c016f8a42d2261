"""Bring the categories' results together: the metrics, and the report."""

import json
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.core.params import Params, load_params
from stage.core.progress import check_stop
from stage.release.uses import check_samples
from stage.report.pages import write_report
from stage.segmentation.results import gather_metrics, write_loss_curves

DATA = Path("data")
OUTPUT = DATA / "evaluate"


@flow(name="evaluate")
def evaluate() -> None:
    """Collect the metrics and write the report."""
    params = load_params()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    check_stop()
    for category in params.categories:
        check_samples(DATA / "prepare", category, [DATA / "synthesize" / category / method for method in params.methods])
    results = all_metrics(params.categories, params.methods)
    (OUTPUT / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
    write_loss_curves(DATA, params.categories, OUTPUT / "curves")
    report(params)


@task(cache_policy=NO_CACHE)
def all_metrics(categories: tuple[str, ...], methods: tuple[str, ...]) -> dict[str, Any]:
    """The numbers of all categories."""
    return gather_metrics(DATA, categories, methods)


@task(cache_policy=NO_CACHE)
def report(params: Params) -> None:
    """The HTML pages."""
    check_stop()
    write_report(DATA, OUTPUT / "report", params)


if __name__ == "__main__":
    run(evaluate)
