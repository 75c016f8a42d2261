"""The night: `nightly`, `status`, `retain`, `doctor`."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stage.cli.answers import print_answer
from stage.cli.terminal import AsJson, say_json
from stage.core.errors import Refusal
from stage.core.wording import counted

if TYPE_CHECKING:
    from stage.nights.record import Record

verbs = typer.Typer()


@verbs.command()
def nightly(
    *,
    once: Annotated[bool, typer.Option("--once", help="Run one night now.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Publish although a metric is worse than the last version's.")] = False,
) -> None:
    """Take in new photographs, make the data again in a worktree, and tag a version if it is not worse; without Prefect."""
    from stage.nights.night import Night
    from stage.nights.settings import Places

    if not once:
        raise Refusal("Expected --once, which runs one night now, found nothing. `make nightly-up` runs one every night (docs/nights.md).")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what systemd sends: the record then says that the night was stopped
    record = Night.here(Places(Path.cwd()), typer.echo, accept=accept).run()
    typer.echo(f"{record.outcome}: {record.message}")


@verbs.command()
def status(
    count: Annotated[int, typer.Option(min=1, help="Nights to show.")] = 7,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what the last nights did, the newest first."""
    from stage.nights.record import read_records
    from stage.nights.schedule import schedule
    from stage.nights.settings import Places

    places = Places(Path.cwd())
    records = read_records(places.nights)[:count]
    if as_json:
        say_json([one.model_dump(mode="json") for one in records])
        return
    print_answer({"nights": [_night(one) for one in records]}, whole=True)
    for one in records[:1]:
        print_answer({name: getattr(one, name) for name in ("changes", "set_aside", "waiting") if getattr(one, name)})
        for warning in one.warnings:
            typer.echo(warning)
    for one in schedule(places):
        if one.level != "look":  # cron or systemd may start the nights
            typer.echo(f"schedule: {one.found} {one.mend}".rstrip())


@verbs.command()
def retain(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cloud: Annotated[bool, typer.Option("--cloud", help="Also remove from DVC's remote; only if no other repository uses it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep the newest versions, as many as nightly.yaml says, and remove the data that only older ones need, and old records and logs."""
    from stage.nights.retention import retain as retained
    from stage.nights.settings import Places, load_nightly

    root = Path.cwd()
    found = retained(Places(root), load_nightly(root), cloud=cloud, dry_run=dry_run)
    if as_json:
        say_json(found._asdict())
        return
    gone = "Would go" if dry_run else "Gone"
    typer.echo(f"{counted(len(found.kept), 'version')} kept. {gone}: {', '.join(found.retired) or 'none'}.")
    if found.nights:
        typer.echo(
            f"{gone} with their logs: the records of {counted(len(found.nights), 'night')}, {found.nights[0]} to {found.nights[-1]}."
        )
    if found.logs:
        typer.echo(f"{gone}: the beginning of {' and of '.join(found.logs)}.")
    remote = f"; {counted(found.from_remote, 'object')} from its remote" if cloud else ""
    typer.echo(f"{gone} from DVC's cache: {counted(found.from_cache, 'object')}, {found.cache_bytes / 1e6:,.2f} MB{remote}.")


@verbs.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check what a run or a night needs, with the next command for each finding; exit status 1 if something will fail."""
    from stage.nights.doctor import examine

    found = examine(Path.cwd())
    if as_json:
        say_json([one._asdict() for one in found])
    else:
        print_answer({"findings": [one._asdict() for one in found]}, whole=True)
    if any(one.level == "fails" for one in found):
        raise typer.Exit(1)


def _night(record: "Record") -> dict[str, Any]:
    """A night as a row."""
    minutes = round((record.ended - record.began).total_seconds() / 60, 1) if record.ended else None
    what = record.message.partition("\n")[0].rstrip(":")
    if record.steps and record.outcome == "running":
        what = record.steps[-1].name
    elif record.outcome == "refused":
        what = f"{counted(sum(not one['holds'] for one in record.gate), 'check')} failed"
    return {
        "night": record.id, "outcome": record.outcome, "version": record.tag, "minutes": minutes, "photographs": len(record.taken_in),
        "aside": len(record.set_aside), "what": what,
    }  # fmt: skip
