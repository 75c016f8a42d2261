"""A claim has one holder. It ends with the holder's process; a holder that returns later cannot publish."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stage.jobs.claims import Claim, Owner, holder, holder_is_alive, take
from stage.jobs.heartbeat import is_in_use, present

LEASE_S = 60.0


def taken(path: Path, owner: Owner | None = None) -> Claim | None:
    return take(path, owner or Owner.here(), lease_s=LEASE_S)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims" / "batch.json"


@pytest.fixture
def dead() -> Owner:
    """A process that has been and gone."""
    code = "import json; from stage.jobs.claims import Owner; print(json.dumps(Owner.here()._asdict()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Owner(**json.loads(done.stdout))


def test_a_claim_has_one_holder(path: Path) -> None:
    """Two workers would render the same batch at once, and whoever waits would wait for the wrong one."""
    first = taken(path)

    assert first is not None
    assert first.is_held()
    assert taken(path) is None
    first.release()
    assert taken(path) is not None


def test_of_many_that_race_one_wins(path: Path) -> None:
    """Workers that start together would all take the first batch."""
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: taken(path), range(64)))

    assert sum(claim is not None for claim in claims) == 1


def test_of_many_that_race_for_a_dead_ones_claim_one_wins(path: Path, dead: Owner) -> None:
    """After a kill, the survivors would all take over at once."""
    path.parent.mkdir()
    path.write_text(json.dumps(dead._asdict()))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: take(path, Owner.here(), lease_s=LEASE_S), range(64)))
    winners = [(claim, before) for claim, before in answers if claim is not None]

    assert len(winners) == 1
    assert winners[0][0].is_held()
    assert winners[0][1] == dead


def test_a_dead_holder_loses_its_claim_and_a_living_one_does_not(path: Path, dead: Owner) -> None:
    """A kill would leave a batch that nobody ever makes."""
    assert taken(path, dead) is not None

    claim, before = take(path, Owner.here(), lease_s=LEASE_S)

    assert claim is not None
    assert before == dead
    assert take(path, Owner.here(), lease_s=LEASE_S) == (None, None)


def test_a_process_that_got_a_dead_ones_number_is_not_its_holder(path: Path) -> None:
    """After a restart, an unrelated process with the old number would hold the batch for ever."""
    me = Owner.here()
    earlier = me._replace(started=me.started - 3600)
    assert taken(path, earlier) is not None

    assert not holder_is_alive(path, lease_s=LEASE_S)
    assert taken(path) is not None


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"world": "another container, or before a restart"}])
@pytest.mark.parametrize(("age_s", "alive"), [(LEASE_S / 2, True), (LEASE_S * 2, False)])
def test_a_holder_that_cannot_be_seen_lives_by_its_beats(path: Path, age_s: float, alive: bool, where: dict[str, str]) -> None:
    """Its process number means nothing here: a dead machine would keep its work, or a living container lose it."""
    other = taken(path, Owner.here()._replace(**where))
    assert other is not None
    past = time.time() - age_s
    os.utime(path, (past, past))

    assert holder_is_alive(path, lease_s=LEASE_S) == alive
    other.beat()
    assert holder_is_alive(path, lease_s=LEASE_S)


def test_a_survivor_is_fenced_off(path: Path) -> None:
    """A machine that slept through its lease would wake up, publish beside its successor, and give away the other's claim."""
    asleep = taken(path, Owner.here()._replace(host="elsewhere"))
    assert asleep is not None
    os.utime(path, (0, 0))
    successor = taken(path)
    assert successor is not None

    assert not asleep.is_held()
    asleep.beat()
    asleep.release()
    assert successor.is_held()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}', "\0\0\0\0"])
def test_a_damaged_claim_holds_nothing(path: Path, content: str) -> None:
    """A claim cut off by a full disk would keep its batch from being made."""
    path.parent.mkdir()
    path.write_text(content)

    assert holder(path) is None
    assert taken(path) is not None


def test_a_link_whose_answer_was_lost_is_a_claim(path: Path) -> None:
    """On a shared file system the worker would wait for itself, for ever."""
    me = Owner.here()
    assert taken(path, me) is not None

    claim, before = take(path, me, lease_s=LEASE_S)

    assert claim is not None
    assert before is None


def test_a_removed_job_does_not_come_back_as_a_folder_of_claims(tmp_path: Path) -> None:
    """The next plan of that name would find something that is no job."""
    with pytest.raises(FileNotFoundError):
        taken(tmp_path / "gone" / "claims" / "0.json")

    assert not (tmp_path / "gone").exists()


def test_a_job_is_in_use_while_a_process_says_so(tmp_path: Path, dead: Owner) -> None:
    """The garbage collection would take a job away while its worker loads the model, or never take one that a kill has left."""
    (tmp_path / "present").mkdir()
    (tmp_path / "present" / f"{dead.token}.json").write_text(json.dumps(dead._asdict()))
    assert not is_in_use(tmp_path, lease_s=LEASE_S)

    with present(tmp_path, lease_s=LEASE_S):
        assert is_in_use(tmp_path, lease_s=LEASE_S)
    assert not is_in_use(tmp_path, lease_s=LEASE_S)


def test_nothing_is_left_behind(path: Path) -> None:
    """A year of nightly runs would fill the folder."""
    claim = taken(path)
    assert claim is not None
    taken(path)
    claim.release()

    assert {item.name for item in path.parent.iterdir()} <= {".guard"}
