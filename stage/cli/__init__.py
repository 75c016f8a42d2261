"""`stage ...`: the commands beside `dvc repro`. Every verb calls one function, which it imports when it runs."""

import sys

import typer

from stage.cli import data, lineage, nights, recall, results, work
from stage.core.durable import refusing_full_disks
from stage.core.errors import Refusal
from stage.core.processes import collect_rarely, keep_memory
from stage.core.redaction import for_terminal

app = typer.Typer(help="STAGE, a data factory for industrial anomaly synthesis.", no_args_is_help=True, pretty_exceptions_enable=False)
for verbs in (data.verbs, results.verbs, work.verbs, recall.verbs, nights.verbs):
    app.add_typer(verbs)
app.add_typer(lineage.verbs, name="lineage")


def main() -> None:
    """Run a verb; a Refusal is shown as its message, any other error with its traceback."""
    collect_rarely()
    keep_memory()
    try:
        with refusing_full_disks():
            app()
    except Refusal as error:
        sys.exit(for_terminal(str(error)))
