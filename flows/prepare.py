"""Read the data set into one catalog per category: what was found, how it is used, and its pixels at working size."""

import tempfile
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from rich.console import Console

from flows.engines import check_engine
from flows.runtime import run
from stage.core.data_params import Prepare
from stage.core.params import load_params
from stage.core.wording import printable
from stage.datasets.catalog import prepare as read_catalogs
from stage.datasets.demo.dataset import DEFECTS, write_demo
from stage.datasets.kept import forget_kept, read_kept
from stage.datasets.leaks import check_catalogs
from stage.datasets.recalled import read_recalls
from stage.datasets.summary import Summary, summary_table, trained_types
from stage.model.base_pointer import needs_base
from stage.model.preflight import check_base

OUTPUT = Path("data/prepare")
SHOWN = 40  # notes and warnings on the terminal


@flow(name="prepare")
def prepare() -> None:
    """Read every category, drawing the demo's first, and refuse now what a later step could not work with."""
    params = load_params()
    check_engine(params.execution)
    if params.prepare.layout == "demo":
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "demo", params.seed, params.categories)
            summary = read(params.prepare, params.categories, Path(folder) / "demo")
    else:
        summary = read(params.prepare, params.categories, Path(params.prepare.source))
    show(summary)
    is_trained_here = needs_base(params.methods) and params.base.source == "scratch"
    check_catalogs(OUTPUT, params.categories, share_base=is_trained_here)
    if needs_base(params.methods):
        check_base(params.base, params.method.token_count, trained_types(summary.table))
    forget_kept()


def show(summary: Summary) -> None:
    """Print the table and the first warnings."""
    Console().print(summary_table(summary.table))
    for warning in summary.warnings[:SHOWN]:
        Console().print(printable(warning), markup=False, highlight=False, soft_wrap=True)
    if len(summary.warnings) > SHOWN:
        Console().print(f"... and {len(summary.warnings) - SHOWN} more.")
    if summary.warnings:
        Console().print(f"{OUTPUT / 'set_aside.csv'} and the column note of the catalogs name every file.", soft_wrap=True)


@task(cache_policy=NO_CACHE)
def draw(root: Path, seed: int, categories: tuple[str, ...]) -> None:
    """Draw the demo's categories that are asked for into a temporary folder; if one is unknown, all of them, so that the refusal can name them."""
    write_demo(root, seed, categories if set(categories) <= set(DEFECTS) else DEFECTS)


@task(cache_policy=NO_CACHE)
def read(params: Prepare, categories: tuple[str, ...], root: Path) -> Summary:
    """Write catalogs, summary and the list of what was set aside."""
    return read_catalogs(params, categories, root, OUTPUT, read_recalls(), reader=read_kept)


if __name__ == "__main__":
    run(prepare)
