"""`stage ...`: what people do with the factory beside `dvc repro`. Every verb calls one function."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stage.params import load_params

app = typer.Typer(help="STAGE, a data factory for industrial anomaly synthesis.", no_args_is_help=True, pretty_exceptions_enable=False)
DATA = Path("data")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def use_data(
    folder: Annotated[Path, typer.Argument(help="The data set: MVTec AD or BTAD layout, or a single category of one.")],
    categories: Annotated[list[str] | None, typer.Option("--category", help="Only these; all that are found otherwise.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the images; it travels with every sample.")] = "unknown",
) -> None:
    """Point params.yaml at a data set; `git checkout params.yaml` goes back to the demo."""
    from stage.datasets.layouts import detect_layout
    from stage.settings import use_data as write

    layout, found = detect_layout(folder)
    if unknown := sorted({*(categories or ())} - {*found}):
        raise ValueError(f"Expected categories among {', '.join(found)}, found {', '.join(unknown)} after --category. Look into {folder}.")
    write(Path("params.yaml"), folder, layout, categories or found, licence)
    _say(f"params.yaml now reads {', '.join(categories or found)} ({layout}) from {folder.resolve()}.")


@app.command()
def demo_data(folder: Annotated[Path, typer.Argument(help="Where to draw it.")]) -> None:
    """Draw the demo data set, to look at it or to use it elsewhere."""
    from stage.datasets.demo import write_demo

    write_demo(folder, load_params().seed)


@app.command()
def export(
    output: Annotated[Path, typer.Option(help="Folder that gets one folder per category.")] = Path("build/export"),
    categories: Annotated[list[str] | None, typer.Option("--category", help="Only these.")] = None,
) -> None:
    """Write the published samples as PNG files in MVTec AD's layout."""
    from stage.export import export_mvtec

    for category in categories or load_params().categories:
        count = export_mvtec(DATA, category, output)
        _say(f"{count} samples of {category} in {output / category}")


@app.command()
def contact_sheet(
    output: Annotated[Path, typer.Argument(help="The PNG to write.")],
    count: Annotated[int, typer.Option(min=1, help="Samples per defect type.")] = 4,
) -> None:
    """Draw the first samples of every defect type into one picture."""
    from stage.report.overview import overview

    output.parent.mkdir(parents=True, exist_ok=True)
    overview(DATA, load_params().categories, count).save(output)
    _say(f"The first {count} accepted samples of every defect type in {output}")


@app.command()
def results(*, as_json: AsJson = False) -> None:
    """Show the metrics of the last `dvc repro`."""
    from stage.results import read_results, results_table

    values = read_results(DATA)
    Console().print_json(json.dumps(values)) if as_json else Console().print(results_table(values))


@app.command()
def ablation(
    *,
    output: Annotated[Path, typer.Option(help="Folder that gets the pictures.")] = Path("build/ablation"),
    check: Annotated[bool, typer.Option("--check", help="Only say whether the configurations fit params.yaml.")] = False,
) -> None:
    """Show what `make ablation` found, and draw its bars."""
    from stage.ablations import load_configurations, variants

    if check:  # before the first of many hours, not after the last
        variants(load_params(), load_configurations())
        return
    from stage.ablation_results import ablation_table, read_ablations
    from stage.report.ablation import draw_ablation

    groups = read_ablations(DATA, load_params().categories)
    Console().print(ablation_table(groups))
    for path in draw_ablation(DATA, groups, output):
        _say(f"file://{path.resolve()}")


@app.command()
def plan(
    categories: Annotated[list[str] | None, typer.Option("--category", help="Only these.")] = None,
    *,
    measure: Annotated[bool, typer.Option(help="Render two batches, to say how long it takes and how much disk it needs.")] = True,
) -> None:
    """Plan the samples of trained categories and print each job's folder; refuse where the disk cannot hold them."""
    from stage.base_source import follow_pointer
    from stage.batches import Spool
    from stage.device import device
    from stage.forecast import forecast
    from stage.jobs import make_job

    params = load_params()
    for category in categories or params.categories:
        catalog, checkpoint, base = DATA / "prepare" / category, DATA / "train" / category, follow_pointer(DATA / "pretrain")
        folder = make_job(category, catalog=catalog, base=base, checkpoint=checkpoint, params=params, spool=Spool())
        _say(f"{folder}")
        if measure:
            found = forecast(folder, device=device(params.execution.device))
            _say(
                f"  to make: {found.samples} samples in {found.batches} batches, {found.network_calls} network calls, about "
                f"{found.seconds / 60:.1f} min with one worker here and {found.size / 1e9:.3f} GB of disk ({found.free / 1e9:.1f} GB free)"
            )
            found.check_disk(folder)


@app.command()
def verify(
    categories: Annotated[list[str] | None, typer.Option("--category", help="Only these.")] = None,
) -> None:
    """Check published samples against their manifest, digests and plan, without any model."""
    from stage.verification import verify as problems_of

    problems = [
        (DATA / "synthesize" / category, problem)
        for category in categories or load_params().categories
        for problem in problems_of(DATA / "synthesize" / category)
    ]
    for folder, problem in problems:
        _say(f"{folder / problem.where}: {problem.what}")
    if problems:
        raise ValueError(f"Expected published samples as they were made, found {len(problems)} problem(s). Run `dvc checkout synthesize`.")
    _say("Everything is as it was published.")


@app.command()
def gc(*, dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False) -> None:
    """Remove from .spool the jobs and batches that no parameters of today want, nor those of the ablation."""
    from stage.ablations import load_configurations, variants
    from stage.batches import Spool
    from stage.collection import collect

    params = load_params()
    wanted = [params, *(variant for _, variant in variants(params, load_configurations()))]
    found = collect(Spool(), wanted, lease_s=params.execution.lease_s, dry_run=dry_run)
    for garbage in found:
        _say(f"{garbage.path}: {garbage.size / 1e6:.1f} MB, {garbage.why}")
    _say(f"{sum(garbage.size for garbage in found) / 1e6:.1f} MB {'would go' if dry_run else 'are gone'}.")


@app.command()
def chaos(
    folder: Annotated[Path, typer.Argument(help="A new folder on the disk to be tried.")] = Path("build/chaos"),
    times: Annotated[int, typer.Option(min=1, help="How often every fault is injected.")] = 5,
    seed: Annotated[int, typer.Option(help="What the chances follow from.")] = 0,
) -> None:
    """Kill, cut, flip and fill while small samples are made on this machine, and say whether anything was lost."""
    from stage.chaos import chaos as injected
    from stage.chaos import chaos_table, check_outcomes

    outcomes = injected(folder, load_params(), times=times, seed=seed)
    Console().print(chaos_table(outcomes))
    check_outcomes(outcomes)


@app.command()
def worker(
    job: Annotated[Path, typer.Argument(help="A job's folder, `.spool/jobs/...`; `stage plan` and `dvc repro synthesize` make them.")],
    parent: Annotated[int | None, typer.Option(hidden=True, help="Process that this one is not to outlive.")] = None,
) -> None:
    """Make what is left of a job, beside any number of other workers: exit status 0 when nothing is left, 130 when asked to stop."""
    if parent is not None:
        from stage.parents import end_with

        end_with(parent)
    from stage.service import serve

    raise typer.Exit(serve(job, load_params().execution))


def _say(text: str) -> None:
    """Print as it is: a path may hold what rich would read as markup, or wrap."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run a verb; bad input ends in its message, not in a traceback."""
    try:
        app()
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
