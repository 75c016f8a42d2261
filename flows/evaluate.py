"""Join the categories' results in tables of metrics and the report."""

import json
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.core.params import Params, load_params
from stage.core.progress import check_stop
from stage.release.fidelity import measure_fidelity, write_fidelity
from stage.release.uses import check_samples
from stage.report.pages import write_report
from stage.segmentation.choice import read_choices
from stage.segmentation.results import gather_results, headline, write_loss_curves, write_results

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
    all_results(params.categories)
    write_loss_curves(DATA, params.categories, OUTPUT / "curves")
    fidelity(params)
    report(params)


@task(cache_policy=NO_CACHE)
def all_results(categories: tuple[str, ...]) -> None:
    """Write the tables of all categories, and the numbers for `dvc metrics`."""
    results = gather_results(DATA, categories)
    write_results(results, OUTPUT)
    chosen = {category: choice.arm for category, choice in read_choices(DATA, categories).items()}
    (OUTPUT / "metrics.json").write_text(json.dumps(headline(results, chosen), indent=2) + "\n")


@task(cache_policy=NO_CACHE)
def fidelity(params: Params) -> None:
    """Write the table that compares real and synthetic defects."""
    write_fidelity(measure_fidelity(DATA, params.categories, params.methods, params.seed), OUTPUT)


@task(cache_policy=NO_CACHE)
def report(params: Params) -> None:
    """Write the HTML pages."""
    check_stop()
    write_report(DATA, OUTPUT / "report", params)


if __name__ == "__main__":
    run(evaluate)
