"""Loops show where they are, and stop between two steps."""

import os
import signal
from collections.abc import Iterator

import pytest

from stage.core.progress import Interrupted, check_stop, stop_on_signals, track


@pytest.fixture
def _signals() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_on_signals()
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_loop_between_two_steps(number: signal.Signals) -> None:
    """A state saved in the middle of an update could not be continued."""
    whole: list[int] = []

    def work() -> None:
        for step in track(range(5), total=5, label="work"):
            if step == 2:
                os.kill(os.getpid(), number)
            whole.append(step)

    with pytest.raises(Interrupted):
        work()

    assert whole == [0, 1, 2]


@pytest.mark.usefixtures("_signals")
def test_a_signal_outside_a_loop_stops_at_the_next_place_to_stop() -> None:
    """Ctrl-C while a report is written would be forgotten, and `dvc repro` go on."""
    check_stop()
    os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        check_stop()
    check_stop()


def test_lines_say_what_is_done_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """A long run in a log file would look dead."""
    assert list(track("abc", total=5, label="work", done=2)) == ["a", "b", "c"]

    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "work: 2/5"
    assert last.startswith("work: 5/5, ")
    assert last.endswith("ETA 0 s")
