"""`stage ...` as people type it."""

import sys

import pytest
from typer.testing import CliRunner, Result

from stage.cli import app, main


def run(*arguments: str) -> Result:
    """Run a verb; what it raises is raised."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"}, catch_exceptions=False)


def refused(*arguments: str) -> str:
    """Run what `stage` runs in a shell, and give back its one message: a text as exit status is printed, and the status is 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stage", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, str)
    return ended.value.code
