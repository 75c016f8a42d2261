"""When the night runs: the schedule of prefect.yaml, over the days on which clocks are set; and its page in Prefect."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled
from source_tree import ROOT

from flows.nightly import last_due, summary
from flows.server import find_or_start
from stage.nights.record import Record, Step

DEPLOYMENT = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"][0]
BERLIN = ZoneInfo("Europe/Berlin")


def nights(cron: str, first: date, count: int) -> list[datetime]:
    """The next runs from midnight of a day on, in Berlin."""
    schedule = CronSchedule(cron=cron, timezone=DEPLOYMENT["schedules"][0]["timezone"])
    start = datetime(first.year, first.month, first.day, tzinfo=BERLIN)
    return [one.astimezone(BERLIN) for one in asyncio.run(schedule.get_dates(n=count, start=start))]


@pytest.mark.parametrize("changed", [date(2027, 3, 28), date(2027, 10, 31)])
def test_there_is_one_night_a_day_when_clocks_are_set(changed: date) -> None:
    """A night would be left out, or run twice. In March, 02:00 does not exist."""
    before = changed - timedelta(days=2)
    found = nights(DEPLOYMENT["schedules"][0]["cron"], before, 5)

    assert [one.date() for one in found] == [before + timedelta(days=day) for day in range(5)]
    assert {one.hour for one in found if one.date() != changed} == {2}
    assert all(
        timedelta(hours=22) < later.astimezone(UTC) - earlier.astimezone(UTC) < timedelta(hours=26) for earlier, later in pairwise(found)
    )


def test_a_name_from_data_is_no_html_in_the_summary() -> None:
    """A folder's name would run in the browser of whoever looks at the night."""
    name = "<img src=x onerror=alert(1)>"
    record = Record.here(datetime.now().astimezone()).model_copy(
        update={"message": name, "warnings": [name], "steps": [Step(name="gate", began=datetime.now().astimezone(), told=name)]}
    )

    told = summary(record, ROOT / "nowhere")

    assert ("<img" in told, told.count("&lt;img")) == (False, 3)


def test_a_late_night_was_due_when_the_newest_one_was(prefect_home: Path) -> None:
    """After a missed week the oldest late run would find that a night had finished since it was due, when the newest is cancelled already."""
    now = datetime.now().astimezone()
    days = [timedelta(days=day) for day in (-6, -1, 1)]
    with temporary_settings({PREFECT_API_URL: find_or_start(prefect_home)}), get_client(sync_client=True) as client:
        scheduled = client.create_deployment(client.create_flow_from_name("late"), "nightly")
        for day in days:
            client.create_flow_run_from_deployment(scheduled, state=Scheduled(scheduled_time=now + day))

        assert last_due(scheduled, now + days[0]) == now + days[1]
        assert last_due(uuid4(), now + days[0]) == now + days[0]
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert last_due(scheduled, now + days[0]) == now + days[0]


def test_a_night_that_meets_another_is_cancelled() -> None:
    """A queue of nights would grow behind one that takes long."""
    assert DEPLOYMENT["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
