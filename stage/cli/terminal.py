"""Shared by all verbs: where the data lies, options, and how values are printed."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from stage.core.errors import Refusal
from stage.core.paths import nearest_existing
from stage.datasets.walking import SUFFIXES

if TYPE_CHECKING:
    from stage.core.params import Params

DATA = Path("data")
COLUMNS = 100  # that tables fit
UNBOUND = 100_000  # columns, where no terminal breaks lines
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Categories = Annotated[list[str] | None, typer.Option("--category", help="Only these; may be given several times.")]


def chosen(asked: Sequence[str] | None, known: Sequence[str], place: Path = Path("params.yaml")) -> list[str]:
    """The categories asked for, each once, or all known ones. Raises Refusal if one is unknown in `place`."""
    if unknown := sorted({*(asked or ())} - {*known}):
        raise Refusal(f"Expected categories among {', '.join(known)}, found {', '.join(unknown)}. Look into {place}.")
    return list(dict.fromkeys(asked or known))


def writable(path: Path) -> Path:
    """The same path. Raises Refusal if its nearest existing parent is not a writable folder."""
    home = nearest_existing(path.absolute().parent)
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        found = "a folder that may not be written, or entered" if home.is_dir() else "a file"
        raise Refusal(f"Expected a folder to write {path} in, found that {home} is {found}. Name another place.")
    return path


def picture_file(path: Path) -> Path:
    """The same path, if it is `writable`. Raises Refusal if its extension is not that of a picture."""
    if path.suffix.lower() not in SUFFIXES:
        raise Refusal(f"Expected the name of a picture to draw, such as sheet.png, found {str(path)!r}. Name a file that ends in .png.")
    return writable(path)


def published_folders(params: "Params", categories: Sequence[str] | None) -> list[Path]:
    """Where the samples of these categories, or of all, are published: a folder per category and method."""
    return [DATA / "synthesize" / category / method for category in chosen(categories, params.categories) for method in params.methods]


def say_recalled(told: str) -> None:
    """Warn on stderr of published data that come from recalled sources."""
    typer.echo(
        f"Warning: recalled.yaml {told}. The next `dvc repro` makes the working tree again without it; published versions stay as they are.",
        err=True,
    )


def console() -> Console:
    """The console for tables: as wide as the terminal, at most 100 columns; in a file or a pipe no cell is broken, unless COLUMNS says otherwise."""
    terminal = Console()
    width = min(COLUMNS, terminal.width) if terminal.is_terminal or "COLUMNS" in os.environ else UNBOUND
    return Console(markup=False, emoji=False, highlight=False, width=width)


def say_json(value: Any) -> None:
    """Print a value as JSON; paths become text, and numbers that JSON lacks null."""
    try:
        told = json.dumps(value, indent=2, default=str, allow_nan=False)
    except (TypeError, ValueError):
        told = json.dumps(_plain(value), indent=2, default=str)
    typer.echo(told)


def _plain(value: Any) -> Any:
    """The same with keys as text, and null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
