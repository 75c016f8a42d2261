"""Looking at results: `results`, `fidelity`, `tables`, `ablation`, `contact-sheet`."""

import json
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from stage.cli.terminal import COLUMNS, DATA, AsJson, chosen, console, picture_file, say_json, writable

verbs = typer.Typer()


@verbs.command()
def results(*, as_json: AsJson = False) -> None:
    """Show the metrics of the last `dvc repro`."""
    from stage.core.params import load_params
    from stage.nights.versions import LOCK, changed_parameters
    from stage.segmentation.arms import PERFECT, arm_name
    from stage.segmentation.choice import read_choices
    from stage.segmentation.results import AVERAGE, read_results
    from stage.segmentation.verdicts import results_tables, threshold_note, verdict, worth

    found = read_results(DATA)
    if as_json:
        say_json({name: json.loads(table.to_json(orient="records")) for name, table in found._asdict().items()})
        return
    for table in results_tables(found):
        console().print(table)
    sampled = [arm.removeprefix(arm_name("")) for arm in found.differences.arm.unique() if arm.startswith(arm_name(""))]
    told = [f"{verdict(found, method)} {worth(found, AVERAGE, method)}" for method in sampled if method != PERFECT]
    told += [note] if (note := threshold_note(found)) else []
    told += [f"{category}: {choice.advice}" for category, choice in read_choices(DATA, load_params().categories).items()]
    if changed := changed_parameters(Path(LOCK), Path("params.yaml")):
        told.append(f"These results are older than a change in params.yaml, of {', '.join(changed)}. Run `dvc repro` for new ones.")
    for sentence in told:
        typer.echo(fill(sentence, COLUMNS, break_long_words=False, break_on_hyphens=False))


@verbs.command()
def fidelity(
    category: Annotated[str, typer.Argument(help="Only this category of params.yaml.")] = "",
    *,
    measure: Annotated[bool, typer.Option("--measure", help="Measure what is published now, also before `evaluate` has run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how similar accepted samples are to real defects, which targets they miss, and how similar their masks are to real ones."""
    from stage.core.params import load_params
    from stage.release.fidelity import measure_fidelity, read_fidelity
    from stage.report.fidelity import fidelity_rows, fidelity_table, fidelity_verdicts, legend, mask_table
    from stage.segmentation.results import rows_among

    params = load_params()
    names = chosen([category] if category else None, params.categories)
    found = measure_fidelity(DATA, names, params.methods, params.seed) if measure else read_fidelity(DATA)
    if as_json:
        say_json(json.loads(rows_among(found, names, "category").to_json(orient="records") or "[]"))
        return
    for name in names:
        rows = fidelity_rows(found, name)
        console().print(fidelity_table(name, rows), mask_table(name, rows))
        for sentence in fidelity_verdicts(rows):
            typer.echo(fill(sentence, COLUMNS, break_long_words=False, break_on_hyphens=False))
    typer.echo(fill(legend(), COLUMNS, break_long_words=False, break_on_hyphens=False))


@verbs.command()
def tables(
    output: Annotated[Path, typer.Option(help="Folder that gets tables.html, tables.md and tables.csv.")] = Path("build/tables"),
) -> None:
    """Write the paper's Tables II to VII with the metrics of the last `dvc repro` beside its figures."""
    from stage.report.paper_pages import write_paper_tables
    from stage.segmentation.results import read_results

    for path in write_paper_tables(read_results(DATA), writable(output)):
        typer.echo(f"file://{path.resolve()}")


@verbs.command()
def ablation(
    *,
    output: Annotated[Path, typer.Option(help="Folder that gets the pictures.")] = Path("build/ablation"),
    check: Annotated[bool, typer.Option("--check", help="Only say whether the configurations fit params.yaml.")] = False,
) -> None:
    """Show what `make ablation` found, and draw its bars."""
    from stage.ablation.configurations import load_configurations, variants
    from stage.core.params import load_params

    if check:  # before the first of many hours, not after the last
        variants(load_params(), load_configurations())
        return
    from stage.ablation.pictures import draw_ablation
    from stage.ablation.results import ablation_table, read_ablations

    groups = read_ablations(DATA, load_params().categories)
    console().print(ablation_table(groups))
    for path in draw_ablation(DATA, groups, writable(output)):
        typer.echo(f"file://{path.resolve()}")


@verbs.command()
def contact_sheet(
    output: Annotated[Path, typer.Argument(help="The PNG to write.")],
    count: Annotated[int, typer.Option(min=1, help="Samples per defect type.")] = 4,
) -> None:
    """Draw the first samples of every defect type into one picture."""
    from stage.core.params import load_params
    from stage.report.overview import overview

    picture_file(output).parent.mkdir(parents=True, exist_ok=True)
    params = load_params()
    overview(DATA, params.categories, params.methods, count).save(output)
    typer.echo(f"The first {count} accepted samples of every defect type in {output}")
