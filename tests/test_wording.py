"""Numbers and lists in sentences."""

from pathlib import Path

import pandas as pd
import pytest

from flows import environment
from flows.prepare import prepare, show
from flows.runtime import run
from stage.core.redaction import without_secrets
from stage.core.wording import apart, counted, first_of
from stage.datasets.summary import Summary


@pytest.mark.parametrize(
    ("number", "noun", "plural", "expected"),
    [(0, "row", "", "0 rows"), (1, "row", "", "1 row"), (1, "batch", "batches", "1 batch"), (2, "batch", "batches", "2 batches")],
)
def test_a_number_has_its_noun(number: int, noun: str, plural: str, expected: str) -> None:
    """A page would say `1 clusters`."""
    assert counted(number, noun, plural) == expected


@pytest.mark.parametrize(("names", "expected"), [((), ""), (("a", "b"), "a; b"), (("a", "b", "c", "d"), "a; b and 2 more")])
def test_a_list_says_how_many_it_leaves_out(names: tuple[str, ...], expected: str) -> None:
    """A message would hide all files but the first few, or say `and 0 more`."""
    assert first_of(names, 2, "; ") == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(4.2, 3.9, ("4.2", "3.9")), (4.54, 4.52, ("4.54", "4.52")), (4.5021, 4.5019, ("4.5021", "4.5019")), (4.5, 4.5, ("4.5", "4.5"))],
)
def test_numbers_that_differ_are_shown_to_differ(one: float, other: float, expected: tuple[str, str]) -> None:
    """A message would call 4.5 more than 4.5."""
    assert apart(one, other, 1) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=abc https://u:p@q@h/x AWS_SECRET_ACCESS_KEY=q", "token=... https://...@h/x AWS_SECRET_ACCESS_KEY=..."),
        ("'Authorization: Bearer abc.d' failed", "'Authorization: ...' failed"),
        ("https://s3/w.pth?X-Amz-Date=1&X-Amz-Signature=ab%2Fc: HTTP 403", "https://s3/w.pth?X-Amz-Date=1&X-Amz-Signature=... HTTP 403"),
        ("https://a.blob/w?sv=1&sig=a%3D&se=2", "https://a.blob/w?sv=1&sig=...&se=2"),
        ('{"password": "a \\"b\\" c", "user": "u"}', '{"password": "...", "user": "u"}'),
        ("{'api_key': 'a b', 'token_count': 8}", "{'api_key': \"...\", 'token_count': 8}"),
        ("PASSWORD='a b' ran", "PASSWORD=... ran"),
        ("the design=round of https://h/x?config=y", "the design=round of https://h/x?config=y"),
    ],
)
def test_a_text_that_is_kept_or_sent_has_no_secret(text: str, shown: str) -> None:
    """Whoever reads a log, a record or an event could fetch or push what they must not."""
    assert without_secrets(text) == shown


def test_a_message_obeys_no_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder's name could clear the terminal, hide what was refused, or carry a token into the log of a night."""
    place = tmp_path / "\x1b[2Jtoken=abc"
    place.mkdir()
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as of_flow:  # there is no params.yaml, and the message says where it looked
        run(prepare, [])
    Path("data").mkdir()
    Path("data/prepare").symlink_to(place)
    with pytest.raises(SystemExit) as of_environment:
        environment.main()
    counts = dict.fromkeys(["accepted", "train", "test", "set_aside", "groups", "noted", "defect_percent"], 1)
    show(Summary(pd.DataFrame([{"category": "part", "defect": "\x1b[2Jdent", **counts}]), ["1 x \x1b[2Jdent is odd"]))

    said = [str(of_flow.value), str(of_environment.value), *capsys.readouterr()]
    assert not any("\x1b" in one or "abc" in one for one in said)
    assert all(r"\x1b[2J" in one for one in said[:3])
    assert said[2].count(r"\x1b[2Jdent") == 2
