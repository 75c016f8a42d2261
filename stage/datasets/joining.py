"""Names that belong together become one: groups that were confirmed to be one part, or that hold the same picture."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Member(NamedTuple):
    """An image file of a category: its group, the digests of its bytes and of its prepared pixels where they are known, and whether it is accepted."""

    path: str
    group: str
    contents: Sequence[str]
    is_usable: bool


def joined(sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """For each name in these sets, the one that stands for all names that they connect, directly or through others: the first of those."""
    whole: dict[str, list[str]] = {}
    for names in sets:
        for name in names:
            small, large = sorted((whole.setdefault(name, [name]), whole[names[0]]), key=len)
            if small is not large:
                large += small
                whole |= dict.fromkeys(small, large)
    first: dict[int, str] = {}
    return {name: first.setdefault(id(some), name) for name, some in whole.items()}


def joined_groups(members: Iterable[Member]) -> dict[str, str]:
    """The name for each group that holds the picture of an accepted image: groups with the same picture show one part.

    It is the name of a group that a groups file lists, if one of them is.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    usable: set[str] = set()
    for one in sorted(members, key=lambda one: (one.group == one.path, not one.is_usable)):
        for content in one.contents:
            holders[content].append(one.group)
        usable.update(one.contents if one.is_usable else ())
    return joined(groups for content, groups in holders.items() if content in usable)
