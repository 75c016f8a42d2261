"""Recalls among the rows of a catalog: a recalled photograph keeps its place in the split, and nothing is drawn from it."""

from collections.abc import Sequence
from dataclasses import replace

from stage.datasets.entries import Entry
from stage.datasets.recalled import Recall
from stage.datasets.rules import GOOD

UNTRAINED = "a recall has left its defect type without a training image"


def with_places(entries: Sequence[Entry], recalls: Sequence[Recall], category: str) -> list[Entry]:
    """The entries, with one for each recalled photograph whose file or mask is gone, so that it keeps its place in the split."""
    usable = {entry.path for entry in entries if not entry.reason}
    gone = {one.image_path: one for one in recalls if one.category == category and one.image_path and one.image_path not in usable}
    return [*(entry for entry in entries if entry.path not in gone), *map(_place_of, gone.values())]


def _place_of(one: Recall) -> Entry:
    place = (one.category, one.defect, one.source_split, one.image_path, one.mask_path or None)
    entry = Entry(*place, one.group, "", image_sha256=one.image_sha256, mask_sha256=one.mask_sha256 or None)
    return replace(entry, prepared_area=one.prepared_area or None)


def without_recalled(entries: Sequence[Entry], recalls: Sequence[Recall]) -> list[Entry]:
    """The entries after the split, the recalled ones without pixels. A defect type that has no training image left is set aside."""
    images = {one.sha256: one.reason for one in recalls if one.kind == "image"}
    masks = {(one.path, one.sha256): one.reason for one in recalls if one.kind == "mask"}
    gone = {one.image_path: one.reason for one in recalls if one.image_path}
    left: list[Entry] = []
    for entry in entries:
        reason = images.get(entry.image_sha256 or "") or masks.get((entry.mask_path or "", entry.mask_sha256 or ""))
        if not reason and entry.image is None:
            reason = gone.get(entry.path)
        left.append(entry.recalled(reason) if reason and not entry.reason else entry)
    lost = _trained(entries) - _trained(left)
    return [entry.set_aside(UNTRAINED) if entry.defect in lost and not entry.reason else entry for entry in left]


def _trained(entries: Sequence[Entry]) -> set[str]:
    return {entry.defect for entry in entries if entry.split == "train" and not entry.reason and entry.defect != GOOD}
