"""Data in, and data out: `use-data`, `use-methods`, `use-errors`, `groups`, `demo-data`, `export`."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from stage.cli.terminal import COLUMNS, DATA, AsJson, Categories, chosen, say_json, say_recalled, writable
from stage.core.errors import Refusal
from stage.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stage.core.params import Params

FEWEST = 4  # parts with real defects that a method can be chosen by: two in each of two folds
DEMO = "demo"  # the name of the demo's parameters, which `use-data` replaces

verbs = typer.Typer()


@verbs.command()
def use_data(
    folder: Annotated[
        Path,
        typer.Argument(
            help="In the layout of MVTec AD, MVTec LOCO AD or BTAD, or with folders normal and defects; one category or several; others by the rule in params.yaml."
        ),
    ],
    categories: Categories = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the images, which travels with every sample; by default the first line of a file LICENSE there.")
    ] = "",
) -> None:
    """Point params.yaml at a data set; `git checkout params.yaml` goes back to the demo."""
    from stage.core.params import load_params
    from stage.core.settings import use_data as write
    from stage.datasets.licences import licences_in
    from stage.datasets.survey import survey

    before = load_params()
    found = survey(folder, before.prepare.folder, before.categories) if before.prepare.layout == "folder" else survey(folder)
    if asked := [f"{name}, {found.left_out[name]}" for name in categories or () if name in found.left_out]:
        raise Refusal(f"Expected categories that can be read in {folder}, found {'; '.join(asked)}. Correct that, or name others.")
    taken = chosen(categories, found.categories, folder)
    named = {} if licence else licences_in([folder, *(folder / name for name in taken if (folder / name).is_dir())])
    written = licence or " AND ".join(named) or "unknown"
    write(Path("params.yaml"), folder, found.layout, taken, written)
    typer.echo(f"params.yaml now reads {', '.join(taken)} ({found.layout}) from {folder.resolve()}.")
    if not licence:
        why = f"the first line of {', '.join(map(str, named.values()))}" if named else "since no file such as LICENSE there names one"
        typer.echo(f"prepare.licence is now {written}, {why}; `--licence` names another.")
    for name, reason in found.left_out.items():
        typer.echo(f"Left out is {name}: {reason}.")
    for sentence in (*found.grouped, *found.set_aside):
        typer.echo(sentence)
    if before.name == DEMO:
        typer.echo(_scale_of_the_demo(before, folder), err=True)


def _scale_of_the_demo(params: "Params", folder: Path) -> str:
    """A caution for users who point the demo's parameters at photographs."""
    scale = f"image_size {params.prepare.image_size}, seeds {params.segment.seeds}, folds {params.segment.folds}"
    return (
        f"Caution: the scale in params.yaml is still the demo's ({scale}), which is too small for photographs. For that of photographs run "
        f"`cp params/real-cpu.yaml params.yaml`, make your own changes there again, and run `stage use-data {folder}`."
    )


@verbs.command()
def use_methods(
    methods: Annotated[
        list[str], typer.Argument(help="`auto`, every method that needs no training; or names of methods. Both: `auto stage`.")
    ],
) -> None:
    """Write the methods to compare into params.yaml; with `auto` `segment` holds real defects out, and says which method helps, or none."""
    from stage.core.params import load_params
    from stage.core.settings import FOLDS
    from stage.core.settings import use_methods as write
    from stage.segmentation.choice import parts_to_hold_out
    from stage.synthesis.method import METHODS

    free = [name for name, method in METHODS.items() if not method.needs_checkpoint]
    is_auto = "auto" in methods
    names = list(dict.fromkeys(one for name in methods for one in (free if name == "auto" else [name])))
    before = load_params()
    parts = parts_to_hold_out(DATA, before.categories) if is_auto else {}
    most_folds = min(parts.values()) // 2 if parts else max(FOLDS, before.segment.folds)
    folds = write(Path("params.yaml"), names, most_folds=most_folds if is_auto else 0)
    typer.echo(f"params.yaml now compares {', '.join(names)}.")
    if dropped := [name for name in before.methods if name not in names]:
        why = f", since `auto` is what needs no training; `stage use-methods auto {' '.join(dropped)}` keeps it" if is_auto else ""
        typer.echo(f"No longer compared is {', '.join(dropped)}{why}.")
    if before.segment.mixture != load_params().segment.mixture:
        typer.echo("segment.mixture has lost the shares of what is no longer compared.")
    if is_auto:
        typer.echo(_told_of_folds(folds, parts))


def _told_of_folds(folds: int, parts: "Mapping[str, int]") -> str:
    """Whether a method can be chosen, given how many parts with real defects each prepared category can hold out."""
    fewest = min(parts, key=lambda category: parts[category], default="")
    if parts and parts[fewest] < FEWEST:
        return (
            f"segment.folds stays {folds}: {fewest} has {counted(parts[fewest], 'part')} with real defects to train on, and a choice needs "
            f"{FEWEST}, two in each of two folds. `stage results` can only compare the methods on the test images."
        )
    told = f", which hold out {counted(parts[fewest], 'part')} with real defects of {fewest} in turn" if parts else ""
    return f"segment.folds is {folds}{told}. After `dvc repro`, `stage results` says which helps, or none, and `stage export --chosen` writes it."


@verbs.command()
def use_errors() -> None:
    """Write into errors.json which real defects the last `segment` missed on folds; with synthesize.missed_share the next plan has more of them."""
    from stage.core.params import load_params
    from stage.datasets.found import FILE, has_new
    from stage.datasets.found import use_errors as use

    params = load_params()
    if not has_new(DATA, params.categories):
        raise Refusal(
            f"Expected {FILE} with real defects in a folder of data/segment, found none. Set segment.folds to 2 or more in params.yaml, "
            "and run `dvc repro`."
        )
    errors = use(DATA, params.categories)
    for category, found in errors.items():
        typer.echo(f"{category}: {sum(one.is_missed for one in found)} of {counted(len(found), 'real defect')} missed.")
    more = "Commit it and run `dvc repro`." if params.synthesize.missed_share else "synthesize.missed_share is 0, so no plan reads it."
    typer.echo(f"{FILE} has them. {more}")


@verbs.command()
def groups(
    category: Annotated[str, typer.Argument(help="A category of params.yaml that is prepared.")],
    accept: Annotated[
        str, typer.Option(help="Numbers of clusters that show one part each, such as 1,3, or all; after a look at the page.")
    ] = "",
    similarity: Annotated[float | None, typer.Option(min=0, max=1, help="Least mean similarity of a cluster; 0.6 if not given.")] = None,
    output: Annotated[Path, typer.Option(help="Folder that gets a folder with page and draft per category.")] = Path("build/groups"),
    *,
    as_json: AsJson = False,
) -> None:
    """Show photographs that may be of the same part; --accept puts them into the groups file, by which the next `dvc repro` splits."""
    from stage.core.params import load_params
    from stage.report.candidates import confirm_groups, propose_groups

    params = load_params()
    (name,) = chosen([category], params.categories)
    if accept:
        file, gained = confirm_groups(params.prepare, name, DATA, output, accept)
        told = {"groups": file, "lines": gained}
        say_json(told) if as_json else typer.echo(f"{file} has {counted(gained, 'more line')}. Run `dvc repro`, which splits by it.")
        return
    found = propose_groups(params.prepare, name, DATA, writable(output / name).parent, similarity)
    if as_json:
        say_json(found.as_json())
        return
    if not found.clusters:
        typer.echo(
            f"No photographs of {name} look alike at a similarity of {found.similarity} or more, beside those of one group; nothing was written."
        )
        return
    number = counted(len(found.clusters), "cluster")
    typer.echo(f"{number} of photographs that may show the same part, {found.astride} on both sides of the split.")
    typer.echo(f"Look: file://{found.page.resolve()}")
    typer.echo(f"The draft of a groups file: {found.draft}")
    typer.echo(found.before_accepting or f'Then accept those that show one part, by their numbers: `stage groups "{name}" --accept 1,3`.')


@verbs.command()
def demo_data(folder: Annotated[Path, typer.Argument(help="Where to draw it.")]) -> None:
    """Draw the demo data set, to look at it or to use it elsewhere."""
    from stage.core.params import load_params
    from stage.datasets.demo.dataset import write_demo

    write_demo(writable(folder), load_params().seed)


@verbs.command()
def export(
    output: Annotated[Path, typer.Option(help="Folder that gets a folder per method, and in it one per category.")] = Path("build/export"),
    categories: Categories = None,
    *,
    is_chosen: Annotated[
        bool,
        typer.Option("--chosen", help="Only what the last `dvc repro` found best to train on: real defects, and samples if they help."),
    ] = False,
    with_recalled: Annotated[bool, typer.Option("--with-recalled", help="Also what `stage recall` has withdrawn since.")] = False,
) -> None:
    """Write the published samples as PNG files in MVTec AD's layout; refused where a recall waits for `dvc repro`."""
    from stage.core.params import load_params
    from stage.release.export import chosen_methods, export_chosen, export_mvtec

    params = load_params()
    wanted = chosen(categories, params.categories)
    methods = {category: chosen_methods(DATA, category, params) if is_chosen else params.methods for category in wanted}
    _expect_nothing_recalled(methods, with_recalled=with_recalled)
    for category in wanted:
        if is_chosen:
            real, samples, advice = export_chosen(DATA, category, params, writable(output / "chosen"))
            typer.echo(f"{counted(real, 'real defect')} and {counted(samples, 'sample')} of {category} in {output / 'chosen' / category}")
            typer.echo(fill(advice, COLUMNS, break_long_words=False, break_on_hyphens=False))
            continue
        for method in methods[category]:
            count = export_mvtec(DATA, category, method, writable(output / method))
            typer.echo(f"{counted(count, 'sample')} of {category} by {method} in {output / method / category}")


def _expect_nothing_recalled(methods: "Mapping[str, Sequence[str]]", *, with_recalled: bool) -> None:
    """Raise Refusal if what is exported comes from recalled sources, or only warn if `with_recalled`. `methods`: by category."""
    from stage.lineage.withdrawn import known_recalls, withdrawn_in

    recalls = known_recalls()
    if found := [told for category, some in methods.items() for told in withdrawn_in(DATA, category, some, recalls).values()]:
        if not with_recalled:
            raise Refusal(
                f"Expected to export nothing that was recalled, found that recalled.yaml concerns {', '.join(found)}. "
                "Run `dvc repro`, which makes all without them, or export them with --with-recalled."
            )
        say_recalled(f"concerns {', '.join(found)}")
