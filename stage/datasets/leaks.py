"""The leak guard: no image of the evaluation, and none of its group, may be among what trains the generator or the segmenter.

A photograph is identified by the digest of its prepared pixels, `image_digest`: encoding a file again does not change it, and two
files that differ only below the prepared size are the same picture to every network.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stage.core.errors import CorruptFileError, DataError
from stage.datasets.examples import CATALOG
from stage.datasets.joining import Member, joined_groups
from stage.datasets.table import read_catalog

SHOWN = 5  # leaks in a message


class Use(NamedTuple):
    """A photograph, or the mask of one, from which something was made; unknown fields are empty.

    `sha256` and `image_digest` are the photograph's and empty for a mask, since masks of different photographs may be equal.
    """

    path: str
    sha256: str
    image_digest: str
    group: str
    role: str  # what it was used as, for the message


class Leak(NamedTuple):
    """An image of the evaluation, the photograph that was used, why they are the same, and what it was used as."""

    evaluated: str
    used: str
    by: str
    role: str


def leaks(catalog: pd.DataFrame, uses: Iterable[Use]) -> list[Leak]:
    """The uses of photographs that equal an evaluation image of the catalog in bytes or pixels, or share its group, each once.

    A use's groups are its own and those that today's catalog gives to its path, bytes or pixels, so that a group that was
    confirmed after the use counts as well. Groups that hold the same picture are one, as in the split.
    """
    evaluated = catalog.loc[(catalog["status"] == "accepted") & (catalog["split"] == "test")]
    files, pixels = _by(evaluated, "image_sha256", "image_path"), _by(evaluated, "image_digest", "image_path")
    one = joined_groups(_members(catalog))
    members = _by(evaluated.assign(group=evaluated["group"].map(one).fillna(evaluated["group"])), "group", "image_path")
    groups = {name: _all(catalog, name, "group") for name in ("image_path", "mask_path", "image_sha256", "image_digest")}
    found: list[Leak] = []
    for use in uses:
        if image := files.get(use.sha256):
            found.append(Leak(image, use.path, "the same file", use.role))
        elif image := pixels.get(use.image_digest):
            found.append(Leak(image, use.path, "the same pixels", use.role))
        elif group := next((name for each in _groups(use, groups) if (name := one.get(each, each)) in members), ""):
            by = "the same photograph" if group == members[group] else f"the same group, {group}"
            found.append(Leak(members[group], use.path, by, use.role))
    return found


def training_images(catalog: pd.DataFrame) -> list[Use]:
    """The images of a catalog on which segmenter, adapters and tokens, and a base from scratch are trained."""
    rows = catalog.loc[(catalog["status"] == "accepted") & (catalog["split"] == "train")].to_dict("records")
    return [Use(row["image_path"], row["image_sha256"], row["image_digest"], row["group"], "a training image") for row in rows]


def check_catalogs(folder: Path, categories: Sequence[str], *, share_base: bool) -> None:
    """Raise DataError if an evaluation image of a catalog in `folder` is among its training images.

    With `share_base`, for a base trained from scratch, the other categories' training images count too; groups count within a category.
    """
    catalogs = {category: read_digests(folder / category / CATALOG) for category in categories}
    trained = {category: training_images(catalog) for category, catalog in catalogs.items()}
    for category, catalog in catalogs.items():
        others = [use._replace(group="") for other in trained if share_base and other != category for use in trained[other]]
        refuse_leaks(leaks(catalog, [*trained[category], *others]), category)


def read_digests(path: Path) -> pd.DataFrame:
    """A catalog without its pixels; raises CorruptFileError if it has no digests of pixels."""
    catalog = read_catalog(path)
    if "image_digest" not in catalog:
        raise CorruptFileError(f"Expected the column image_digest in {path}, found an older catalog. Run `dvc repro prepare`.")
    return catalog


def refuse_leaks(found: Sequence[Leak], category: str) -> None:
    """Raise DataError if there are leaks; it names some of them, and says what to do."""
    if not found:
        return
    told = "".join(f"\n  {leak.evaluated} is tested, and {leak.used} ({leak.by}) is {leak.role}" for leak in found[:SHOWN])
    more = f"\n  and {len(found) - SHOWN} more" * (len(found) > SHOWN)
    raise DataError(
        f"Expected no evaluation image of {category}, and none of its group, among what the networks learn from, found {len(found)}:"
        f"{told}{more}\nRemove one of two equal files, or correct the groups file (docs/data.md), and run `dvc repro`."
    )


def _by(table: pd.DataFrame, key: str, value: str) -> dict[str, str]:
    """The first `value` of each `key` that is there."""
    return {one: others[0] for one, others in _all(table, key, value).items()}


def _all(table: pd.DataFrame, key: str, value: str) -> dict[str, list[str]]:
    """Every `value` of each `key` that is there."""
    found: dict[str, list[str]] = defaultdict(list)
    for one, other in zip(table[key], table[value], strict=True):
        if isinstance(one, str) and isinstance(other, str) and one:
            found[one].append(other)
    return found


def _members(catalog: pd.DataFrame) -> Iterator[Member]:
    for path, group, status, *digests in catalog[["image_path", "group", "status", "image_sha256", "image_digest"]].itertuples(index=False):
        yield Member(path, group, [one for one in digests if isinstance(one, str) and one], status == "accepted")


def _groups(use: Use, known: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[str]:
    yield use.group
    for name, content in (
        ("image_path", use.path),
        ("mask_path", use.path),
        ("image_sha256", use.sha256),
        ("image_digest", use.image_digest),
    ):
        yield from known[name].get(content, ())
