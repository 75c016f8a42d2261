"""What made a sample, what was made from a photograph, what changed: `lineage up`, `down`, `diff`, `why`, `reuse`, `leakage`, `orphans`, `recalled`, `sql`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stage.cli.answers import print_answer
from stage.cli.terminal import AsJson, picture_file, say_json, say_recalled
from stage.core.wording import counted

if TYPE_CHECKING:
    from stage.lineage.database import Answer

verbs = typer.Typer(help="Ask where samples come from and what changed, over any version, without a checkout.", no_args_is_help=True)
Revisions = Annotated[
    list[str] | None, typer.Option("--rev", help="A tag, branch or commit, or `workspace`, the working tree; may be given several times.")
]
Every = Annotated[bool, typer.Option("--all", help="Every tag, HEAD and the working tree.")]
Sample = Annotated[str, typer.Argument(help="A sample's id, `<method>/<category>/<defect>/<ordinal>/<attempt>`.")]
Before = Annotated[str, typer.Argument(help="The earlier version: a tag, branch or commit, or `workspace`.")]
After = Annotated[str, typer.Argument(help="The later version, likewise.")]


@verbs.command()
def up(
    target: Annotated[str, typer.Argument(help="A sample's id or its PNG, or a metric: `<category>/<segmenter>/<arm>/<seed>/<metric>`.")],
    revisions: Revisions = None,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Show what a sample or a metric was made from: photographs, masks, networks and what trained them, parameters, code, run."""
    from stage.lineage.asked import ask
    from stage.lineage.up import RECALLED
    from stage.lineage.up import up as question
    from stage.lineage.versions import versions_of

    versions = versions_of(revisions, every=every)
    answer = ask(versions, lambda database, history: question(database, history, target), is_bare=True)
    _show(answer, as_json=as_json)
    if gone := answer.get(RECALLED):
        say_recalled(f"withdraws {counted(len(gone), 'source')} of {target}")


@verbs.command()
def down(
    source: Annotated[str, typer.Argument(help="A path below the data folder, a file, or a digest of one or of a network.")],
    revisions: Revisions = None,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Show every sample, network and evaluation that a photograph, mask or network touched, in all versions unless some are named."""
    from stage.lineage.asked import ask
    from stage.lineage.down import down as question
    from stage.lineage.versions import versions_of

    versions = versions_of(revisions, every=every or not revisions)
    _show(ask(versions, lambda database, history: question(database, history, source, whole=as_json)), as_json=as_json)


@verbs.command()
def diff(
    before: Before,
    after: After,
    sheet: Annotated[Path | None, typer.Option(help="A PNG to draw, of regenerated samples before and after.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Samples per defect type in it.")] = 4,
    *,
    as_json: AsJson = False,
) -> None:
    """Show which samples were added, removed or regenerated between two versions, or changed in metadata alone, and why."""
    from stage.lineage.asked import ask
    from stage.lineage.changes import diff as question
    from stage.lineage.versions import version_of

    if sheet is not None:
        picture_file(sheet)
    sides = version_of(before), version_of(after)
    answer = ask(sides, lambda database, _: question(database, *sides), strict=True)
    _show(answer, as_json=as_json)
    if sheet is not None:
        from stage.report.before_after import before_and_after

        picture = before_and_after(*sides, answer["every_change"], count)
        sheet.parent.mkdir(parents=True, exist_ok=True)
        picture.save(sheet)
        typer.echo(f"file://{sheet.resolve()}", err=as_json)


@verbs.command()
def why(sample: Sample, before: Before, after: After, *, as_json: AsJson = False) -> None:
    """Show which columns of a sample differ between two versions, and which of its inputs."""
    from stage.lineage.asked import ask
    from stage.lineage.changes import why as question
    from stage.lineage.versions import version_of

    sides = version_of(before), version_of(after)
    _show(ask(sides, lambda database, _: question(database, sample, *sides), strict=True), as_json=as_json)


@verbs.command()
def reuse(
    revisions: Revisions = None,
    count: Annotated[int, typer.Option(min=1, help="How many of the most used sources to name of each role and defect type.")] = 3,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Show how often backgrounds, masks and defects are used, and how far above even use."""
    from stage.lineage.asked import ask
    from stage.lineage.use import reuse as question
    from stage.lineage.versions import versions_of

    _show(ask(versions_of(revisions, every=every), lambda database, _: question(database, count)), as_json=as_json)


@verbs.command()
def leakage(revisions: Revisions = None, *, every: Every = False, as_json: AsJson = False) -> None:
    """Show evaluation images, and members of their groups, among what samples and networks were made from; exit status 1 if any."""
    from stage.lineage.asked import ask
    from stage.lineage.use import leakage as question
    from stage.lineage.versions import versions_of

    answer = ask(versions_of(revisions, every=every), lambda _, history: question(history))
    _show(answer, as_json=as_json)
    if answer["leaks"]:
        raise typer.Exit(1)


@verbs.command()
def orphans(
    revisions: Revisions = None,
    catalog: Annotated[str | None, typer.Option(help="The version whose catalogs count; otherwise each version's own.")] = None,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Show samples whose sources are no longer in the catalog, and batches and runs that nothing refers to."""
    from stage.lineage.asked import ask
    from stage.lineage.use import orphans as question
    from stage.lineage.versions import version_of, versions_of

    versions = versions_of(revisions, every=every)
    names = [version.name for version in versions]
    more = [version_of(catalog)] if catalog is not None and catalog not in names else []
    _show(ask([*versions, *more], lambda database, history: question(database, history, names, catalog)), as_json=as_json)


@verbs.command()
def recalled(revisions: Revisions = None, *, as_json: AsJson = False) -> None:
    """Show what was withdrawn, and which versions it taints, of all unless some are named."""
    from stage.datasets.recalled import read_recalls
    from stage.lineage.asked import ask
    from stage.lineage.recall import recalled as question
    from stage.lineage.versions import versions_of

    versions, recalls = versions_of(revisions, every=not revisions), read_recalls()
    _show(ask(versions, lambda database, history: question(database, history, recalls), needs_samples=False), as_json=as_json)


@verbs.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the views of docs/lineage.md, such as samples and sources.")],
    revisions: Revisions = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The most rows to show.")] = 1000,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Ask in SQL (DuckDB); nothing can be written, and no other file be read."""
    from stage.lineage.asked import ask
    from stage.lineage.sql import bounded
    from stage.lineage.sql import sql as question
    from stage.lineage.versions import versions_of

    with bounded():
        answer = ask(versions_of(revisions, every=every), lambda database, _: question(database, query, limit), is_foreign=True)
        _show(answer, as_json=as_json, whole=True)


def _show(answer: "Answer", *, as_json: bool, whole: bool = False) -> None:
    say_json(answer) if as_json else print_answer(answer, whole=whole)
