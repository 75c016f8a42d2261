"""The split of one category's accepted images: a third of the defects trains generator and segmenters, the rest tests the segmenters."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from stage.datasets.entries import Entry
from stage.datasets.joining import Member, joined_groups
from stage.datasets.rules import GOOD

FEWEST = 3  # images of a defect type; a third of fewer is less than one image


def divide(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, sorted by path, each on its side of the split, or set aside if it can be on neither.

    Groups are assigned whole, in the order of their first image. A group goes to training unless it has a normal test image or
    would exceed floor(n/3) training images of some defect type; otherwise it goes to the test. An image without a group is a
    group of its own, so that without groups the first floor(n/3) images of each type are for training. Groups that hold the same
    picture are one.
    """
    entries = _in_joined_groups(_without_duplicates(sorted(entries, key=lambda entry: entry.path)))
    while True:
        trained = _training_groups(entries)
        reasons = _unusable_types(entries, trained)
        if not reasons:
            return _on_sides(entries, trained)
        entries = [_set_aside(entry, reasons.get(entry.defect, "")) for entry in entries]


def _without_duplicates(entries: list[Entry]) -> list[Entry]:
    first: dict[str | None, Entry] = {}
    for entry in entries:
        if not entry.reason:
            first.setdefault(_content(entry), entry)
    return [_without_copy(entry, first.get(_content(entry), entry)) for entry in entries]


def _content(entry: Entry) -> str | None:
    """The digest of the prepared pixels, or of the file if there are none."""
    return entry.image_digest or entry.image_sha256


def _without_copy(entry: Entry, kept: Entry) -> Entry:
    same = "bytes" if entry.image_sha256 == kept.image_sha256 else "pixels"
    return _set_aside(entry, "" if kept is entry else f"the same {same} as another file, which is kept", kept.path)


def _in_joined_groups(entries: list[Entry]) -> list[Entry]:
    """The entries, with one name for groups that hold the same picture: a copy that is set aside says which part the kept one shows."""
    contents = ([one for one in (entry.image_sha256, entry.image_digest) if one] for entry in entries)
    members = [Member(entry.path, entry.group, some, not entry.reason) for entry, some in zip(entries, contents, strict=True)]
    one = joined_groups(members)
    return [entry if entry.reason else replace(entry, group=one.get(entry.group, entry.group)) for entry in entries]


def _set_aside(entry: Entry, reason: str, detail: str = "") -> Entry:
    return entry.set_aside(reason, detail) if reason and not entry.reason else entry


def _defects(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.reason and entry.defect != GOOD]


def _training_groups(entries: list[Entry]) -> set[str]:
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in _defects(entries):
        members[entry.group][entry.defect] += 1
    tested = _normal_test_groups(entries)
    limits = {defect: count // 3 for defect, count in Counter(entry.defect for entry in _defects(entries)).items()}
    taken: Counter[str] = Counter()
    trained: set[str] = set()
    for group, counts in members.items():
        if group not in tested and all(taken[defect] + count <= limits[defect] for defect, count in counts.items()):
            taken += counts
            trained.add(group)
    return trained


def _normal_test_groups(entries: list[Entry]) -> set[str]:
    return {entry.group for entry in entries if not entry.reason and entry.defect == GOOD and entry.source_split == "test"}


def _unusable_types(entries: list[Entry], trained: set[str]) -> dict[str, str]:
    """The reason for each defect type that cannot be split."""
    reasons: dict[str, str] = {}
    sizes = Counter(entry.defect for entry in _defects(entries))
    covered = {entry.defect for entry in _defects(entries) if entry.group in trained}
    for defect, size in sizes.items():
        if size < FEWEST:
            reasons[defect] = f"its defect type {defect} has {size} usable images, and a split takes {FEWEST}"
        elif defect not in covered:
            reasons[defect] = f"no group of its defect type {defect} fits into a third of its {size} images, so none could be trained on"
    return reasons


def _on_sides(entries: list[Entry], trained: set[str]) -> list[Entry]:
    tested = _normal_test_groups(entries) | {entry.group for entry in _defects(entries) if entry.group not in trained}
    return [entry if entry.reason else _on_side(entry, trained, tested) for entry in entries]


def _on_side(entry: Entry, trained: set[str], tested: set[str]) -> Entry:
    if entry.defect != GOOD:
        return replace(entry, split="train" if entry.group in trained else "test")
    if entry.source_split == "train" and entry.group in tested:
        return entry.set_aside("normal, but its group is in the test, so it may not be a training image", f"group {entry.group}")
    return replace(entry, split=entry.source_split)
