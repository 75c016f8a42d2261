"""Making samples, and the spool: `plan`, `preview`, `worker`, `verify`, `gc`, `chaos`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stage.cli.terminal import DATA, AsJson, Categories, chosen, console, published_folders, say_json, say_recalled, writable
from stage.core.errors import Refusal
from stage.core.paths import WITHDRAWALS
from stage.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stage.release.verification import Problem

verbs = typer.Typer()


@verbs.command()
def plan(
    categories: Categories = None,
    *,
    measure: Annotated[bool, typer.Option(help="Render two batches, to say how long it takes and how much disk it needs.")] = True,
    as_json: AsJson = False,
) -> None:
    """Plan the first round of every category and method and print each job's folder, and the cost; refuse if the disk cannot hold the samples."""
    from stage.core.params import load_params
    from stage.jobs.forecast import check_disk, forecasts

    params = load_params()
    found = forecasts(chosen(categories, params.categories), params, DATA, measure=measure)
    if as_json:
        say_json([one._asdict() for one in found])
    else:
        for one in found:
            if one.job:
                typer.echo(one.job)
            typer.echo(f"  {one.told()}", err=True)  # so that `$(stage plan)` gets the folders alone
    check_disk(found)


@verbs.command()
def preview(
    method: Annotated[str, typer.Argument(help="Any method, also one that params.yaml does not list.")],
    category: Annotated[str, typer.Argument(help="A prepared category of params.yaml.")],
    output: Annotated[Path, typer.Option(help="Folder that gets METHOD-CATEGORY.png.")] = Path("build/preview"),
    count: Annotated[int, typer.Option(min=1, max=100, help="Samples per defect type.")] = 6,
) -> None:
    """Draw a method's first samples of every defect type into one picture, before a long run; nothing is kept or judged."""
    from stage.core.params import load_params
    from stage.report.preview import preview as drawn
    from stage.synthesis.method import METHODS

    if method not in METHODS:
        raise Refusal(f"Expected a method among {', '.join(METHODS)}, found {method!r}. Name one of them.")
    params = load_params()
    chosen([category], params.categories)
    path = writable(output) / f"{method}-{category}.png"
    sheet = drawn(method, category, params, DATA, count)
    output.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    typer.echo(f"file://{path.resolve()}")


@verbs.command()
def worker(
    job: Annotated[Path, typer.Argument(help="A job's folder, `.spool/jobs/...`; `stage plan` and `dvc repro synthesize` make them.")],
    parent: Annotated[int | None, typer.Option(hidden=True, help="Process with which this one ends.")] = None,
) -> None:
    """Make the remaining batches of a job, beside any number of other workers: exit status 0 if nothing is left, 130 if stopped."""
    from stage.core.params import load_params

    if parent is not None:
        from stage.core.processes import end_with

        end_with(parent)
    from stage.jobs.worker_process import run_worker

    raise typer.Exit(run_worker(job, lambda: load_params().execution, is_watched=parent is not None))


@verbs.command()
def verify(
    folders: Annotated[list[Path] | None, typer.Argument(help="Published folders from anywhere; otherwise those under data.")] = None,
    *,
    categories: Categories = None,
    as_json: AsJson = False,
) -> None:
    """Check published samples against their manifest, digests and plan, without any model; exit status 1 if something is wrong.

    Foreign files that no reader takes for samples are named, but are no problem; neither are samples of sources that were recalled since.
    """
    from stage.core.params import load_params
    from stage.core.progress import track
    from stage.lineage.withdrawn import known_recalls, withdrawn_samples
    from stage.release.verification import foreign_files, verify_runs
    from stage.release.verification import verify as problems_of

    places = folders or published_folders(load_params(), categories)
    problems: list[tuple[Path, Problem]] = []
    for place in track(places, total=len(places), label="verify"):
        found = [(place, problem) for problem in problems_of(place)]
        if not (folders or found):  # the project's own samples also have a table of who made them
            runs = DATA / "runs" / place.relative_to(DATA / "synthesize")
            found = [(runs, problem) for problem in verify_runs(runs)]
        problems += found
        for name in foreign_files(place):
            typer.echo(f"{place / name}: a file that does not belong to the data set; it changes no sample.", err=True)
    recalled = {} if folders or problems else withdrawn_samples(places, known_recalls())
    _say_found(problems, recalled, as_json=as_json)
    if problems:
        mend = "Get the data set again from where it was published." if folders else _mend(places)
        raise Refusal(f"Expected published samples as they were made, found {counted(len(problems), 'problem')}. {mend}")
    if not as_json:
        typer.echo("Everything is as it was published.")


def _say_found(problems: "Sequence[tuple[Path, Problem]]", recalled: "Mapping[Path, str]", *, as_json: bool) -> None:
    """Say what is wrong, for people or for machines, and warn of folders with samples of recalled sources, which are as published."""
    if as_json:
        waiting = [{"folder": place, "where": WITHDRAWALS, "what": f"withdraws sources of {found}"} for place, found in recalled.items()]
        say_json([*({"folder": place, **problem._asdict()} for place, problem in problems), *waiting])
    else:
        for place, problem in problems:
            typer.echo(f"{place / problem.where}: {problem.what}")
    if recalled:
        say_recalled(f"withdraws sources of {', '.join(recalled.values())}")


def _mend(places: list[Path]) -> str:
    """What to run where the project's own samples are not as they were published."""
    if not any(place.exists() for place in places):
        return "Nothing has been published yet: run `dvc repro`."
    return "Run `dvc checkout --force synthesize` for what was published last, or `dvc repro synthesize` to make it again."


@verbs.command()
def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove from .spool the jobs and batches that neither the current parameters nor their ablation use, replaced trainings, and unused extracts."""
    from stage.ablation.configurations import wanted_today
    from stage.core.params import load_params
    from stage.jobs.gc import remove_garbage, sums
    from stage.jobs.store import BatchStore
    from stage.lineage.unused import remove_extracts

    params = load_params()
    found = remove_garbage(BatchStore(), wanted_today(params), lease_s=params.execution.lease_s, dry_run=dry_run)
    found += remove_extracts(dry_run=dry_run)
    if as_json:
        say_json([garbage._asdict() for garbage in found])
        return
    for total in sums(found):
        typer.echo(f"{total.pieces:>8} {total.size / 1e6:>10.1f} MB  {total.why}")
    typer.echo(f"{sum(garbage.size for garbage in found) / 1e6:.1f} MB {'would go' if dry_run else 'are gone'}.")


@verbs.command()
def chaos(
    folder: Annotated[Path, typer.Argument(help="A new folder on the disk to be tried.")] = Path("build/chaos"),
    times: Annotated[int, typer.Option(min=1, help="How often every fault is injected.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides the random choices.")] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """Inject faults into a small run on this machine (kills, damaged files, full disks), and say whether anything was lost."""
    from stage.chaos.kit import chaos as injected
    from stage.chaos.kit import chaos_table, check_outcomes
    from stage.core.params import load_params

    outcomes = injected(folder, load_params(), times=times, seed=seed)
    say_json([outcome._asdict() for outcome in outcomes]) if as_json else console().print(chaos_table(outcomes))
    check_outcomes(outcomes)


@verbs.command()
def make_base(
    textures: Annotated[Path, typer.Argument(help="A folder of pictures: textures without defects, of a licence that the base may carry.")],
    output: Annotated[Path, typer.Option(help="Folder that gets the base, in diffusers' layout.")] = Path("build/base"),
    recipe: Annotated[Path, typer.Option(help="The recipe of the base.")] = Path("bases/textures.yaml"),
) -> None:
    """Train a small base on textures, once for all data sets; `pretrain.start` begins with it. Run it again to go on after a stop."""
    from stage.core.params import load_params
    from stage.synthesis.texture_base import check_place, make_texture_base

    place = writable(output.resolve())
    check_place(place)
    make_texture_base(textures, recipe, load_params().execution).publish(place)
    typer.echo(f"The base: {place}. Name it as pretrain.start in params.yaml.")
