"""The catalog of each category: one row per image file found, accepted or set aside, with its prepared pixels."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from stage.core.data_params import FolderRule, Prepare
from stage.core.digests import digest_if_readable
from stage.core.errors import DataError
from stage.core.progress import track
from stage.datasets.channels import LOOKED_AT, best_channel
from stage.datasets.entries import Entry, read_entry
from stage.datasets.folder import FoundFile, find
from stage.datasets.foreground import whole_image
from stage.datasets.groups import Groups, category_groups
from stage.datasets.images import GreyRange, grey_range, read_image
from stage.datasets.layouts import data_root, rule_of
from stage.datasets.likeness import unlike_types
from stage.datasets.near_duplicates import near_duplicate_lines, near_duplicates
from stage.datasets.pairs import decode_image, write_table
from stage.datasets.recalled import Recall, recalled_path, write_withdrawn
from stage.datasets.recalled_entries import with_places, without_recalled
from stage.datasets.resize import resize_image
from stage.datasets.rules import GOOD
from stage.datasets.split import divide
from stage.datasets.summary import Summary, summarise, unmatched_rows, write_summary
from stage.datasets.table import COLUMNS, PICTURES

EntryReader = Callable[..., Entry]  # `read_entry`, or another function with its arguments


def prepare(
    params: Prepare,
    categories: Sequence[str],
    root: Path,
    output: Path,
    recalls: Sequence[Recall] = (),
    *,
    reader: EntryReader = read_entry,
) -> Summary:
    """Read the categories in `root`; write `<category>/catalog.parquet`, `summary.json` and `set_aside.csv` to `output`.

    `recalls` keep their places in the split and are used for nothing else. Returns the summary: counts per category and defect type, and
    what to look at. The same files give the same bytes.
    Raises ConfigError for an invalid naming rule, and DataError for a category that cannot be used.
    """
    rule = rule_of(params, categories)
    entries: list[Entry] = []
    warnings: list[str] = []
    for category in categories:
        found, told = _prepare_category(params, rule, category, root, output, recalls, reader)
        entries += [replace(entry, **dict.fromkeys(PICTURES)) for entry in found]  # the summary needs none, and they are in the catalog
        warnings += told
    unlike = [sentence for category in categories for sentence in unlike_types(output / category, category)]
    summary = summarise(entries, warnings)
    summary = summary._replace(warnings=[*summary.warnings, *unlike])
    write_summary(entries, summary, output)
    return summary


def _prepare_category(
    params: Prepare, rule: FolderRule, category: str, root: Path, output: Path, recalls: Sequence[Recall], reader: EntryReader
) -> tuple[list[Entry], list[str]]:
    home = data_root(root, params.layout, category)
    found = find(home, category, rule, with_foregrounds=params.foreground.strategy == "files")
    groups = category_groups(home, category, rule, found)
    usable = _not_recalled(found, home, recalls)
    grey = _grey_range(params, home, usable)
    params = _with_channel(params, home, usable, grey)
    progress = track(found, total=len(found), label=f"prepare {category}")
    read = [reader(each, home, params, category=category, group=groups.of.get(each.path, each.path), grey=grey) for each in progress]
    divided = divide(with_places(read, recalls, category))
    entries = without_recalled(_agreed(divided, params.image_size), recalls)
    _check_usable(entries, category, home)
    rows = ({name: getattr(entry, name) for name in COLUMNS} for entry in entries)
    write_table(rows, COLUMNS, output / category / "catalog.parquet")
    write_withdrawn(recalls, category, output / category)
    return entries, [*unmatched_rows(groups, rule, category), *_near_duplicates(entries, groups, category)]


def _not_recalled(found: list[FoundFile], home: Path, recalls: Sequence[Recall]) -> list[FoundFile]:
    """The files that may decide how all images of the category are read: not the recalled ones."""
    named = {one.path for one in recalls}
    return [
        one
        for one in found
        if one.reason or one.path not in named or not recalled_path(recalls, one.path, digest_if_readable(home / one.path))
    ]


def _near_duplicates(entries: list[Entry], groups: Groups, category: str) -> list[str]:
    """A sentence on near-duplicates, where no groups file says which photographs show one part."""
    if groups.of:
        return []
    accepted = [(entry.path, entry.split, entry.image["bytes"]) for entry in entries if entry.image]
    paths, splits, pictures = zip(*accepted, strict=True)
    return near_duplicate_lines(near_duplicates(map(decode_image, pictures), paths, splits, {}), category)


def _grey_range(params: Prepare, home: Path, found: list[FoundFile]) -> GreyRange:
    if params.grey_range != "auto":
        return GreyRange(*params.grey_range, is_named=True)
    usable = (home / each.image for each in found if each.image and not each.reason)
    return grey_range(usable, max_megapixels=params.max_megapixels)


def _with_channel(params: Prepare, home: Path, found: list[FoundFile], grey: GreyRange) -> Prepare:
    """The parameters with the channel that `auto` stands for in this category."""
    if params.foreground.channel != "auto" or params.foreground.strategy != "threshold":
        return params
    normal = [home / one.image for one in found if one.image and not one.reason and one.defect == GOOD and one.source_split == "train"]
    some = normal[:: -(-len(normal) // LOOKED_AT) or 1]
    chosen = best_channel(_readable(some, params, grey), params.foreground)
    return params.model_copy(update={"foreground": params.foreground.model_copy(update={"channel": chosen})})


def _readable(paths: list[Path], params: Prepare, grey: GreyRange) -> Iterator[np.ndarray]:
    """The prepared pixels of the images that can be read; the other images' rows will say why they cannot."""
    for path in paths:
        with suppress(DataError, OSError):
            yield resize_image(read_image(path, max_megapixels=params.max_megapixels, grey=grey).pixels, params.image_size)


def _agreed(entries: list[Entry], size: int) -> list[Entry]:
    """Use whole images if the threshold found an object in fewer than half of the normal ones: it found the light or grain of a texture."""
    strategies = [entry.foreground_strategy for entry in entries if entry.foreground_strategy and entry.defect == GOOD]
    found = strategies.count("threshold")
    if 2 * found >= len(strategies):
        return entries
    outline = whole_image((size, size), f"{found} of {len(strategies)} images show an object, so it is taken for a texture")
    return [entry.with_foreground(outline) if entry.foreground_strategy == "threshold" else entry for entry in entries]


def _check_usable(entries: list[Entry], category: str, root: Path) -> None:
    trained = [entry.defect for entry in entries if entry.split == "train" and not entry.reason]
    missing = "normal training image" if GOOD not in trained else "defect type with three usable images" if {*trained} == {GOOD} else ""
    if not missing:
        return
    reasons = Counter(entry.reason for entry in entries if entry.reason).most_common(5)
    told = "".join(f"\n  {count} x {reason}" for reason, count in reasons) or "\n  none"
    types = sorted({entry.defect for entry in entries if entry.defect not in ("", GOOD)})
    raise DataError(
        f"Expected at least one {missing} of category {category} in {root}, found none among {len(entries)} files "
        f"(defect types: {', '.join(types) or 'none'}). Set aside were:{told}\nAdd or mend images there, or correct prepare in params.yaml."
    )
