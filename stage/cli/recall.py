"""Withdrawal of files and samples that should not have been used: `recall`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stage.cli.answers import print_answer
from stage.cli.terminal import DATA, AsJson, say_json
from stage.core.errors import Refusal

if TYPE_CHECKING:
    from stage.datasets.recalled import Recall
    from stage.lineage.contents import History
    from stage.lineage.database import Answer, Database

verbs = typer.Typer()


@verbs.command()
def recall(
    source: Annotated[
        str, typer.Argument(help="A path below the data folder, a file, a digest of one, or the id of a sample that is itself bad.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it stands in recalled.yaml and in the catalog.")] = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it touches.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw a photograph, mask, texture or sample: show what it touches in every version, and record it for the next `dvc repro`."""
    from stage.lineage.asked import ask
    from stage.lineage.recall import impact
    from stage.lineage.versions import every_version

    if not (reason.strip() or dry_run):
        raise Refusal(f"Expected why {source} is recalled, found no --reason. Give one, or --dry-run to see what it touches.")
    found: list[Recall] = []

    def question(database: "Database", history: "History") -> "Answer":
        answer = impact(database, history, source, whole=as_json)
        if not dry_run:
            from stage.core.params import load_params
            from stage.lineage.withdrawal import records

            found.extend(records(database, answer["source"], reason.strip(), DATA, load_params().synthesize))
        return answer

    answer = ask(every_version(), question, needs_samples=False)
    if not dry_run:
        from stage.lineage.withdrawal import add

        add(found)
    say_json(answer) if as_json else print_answer(answer)
    if not dry_run:
        typer.echo(
            f"{', '.join(dict.fromkeys(one.path for one in found))}: in {Path('recalled.yaml')} now. Commit that file and run `dvc repro`; "
            "`git checkout recalled.yaml`, or a `git revert` of its commit, takes it back.",
            err=as_json,
        )
