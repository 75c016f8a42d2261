"""What published samples and their networks were made from, and the leak guard over it. Reads tables, no picture."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.errors import CorruptFileError
from stage.core.wording import counted
from stage.datasets.examples import CATALOG
from stage.datasets.leaks import Leak, Use, leaks, read_digests, refuse_leaks, training_images
from stage.synthesis.rows import NamedMask, missed_defect, mixed_masks, placing_masks, texture_file
from stage.synthesis.schema import CHECKPOINTS, PLAN, SOURCES

ROLES = {"background": "the background", "source": "the defect", "mask": "the mask"}  # by the columns of a plan
Sources = Mapping[str, Mapping[str, Any]]  # rows of `sources.parquet` by their digest


class Published(NamedTuple):
    """The tables that a method published for a category, with a name for messages: one with the columns of the plan, and those beside it."""

    name: str
    plan: Path
    sources: Path
    checkpoints: Path


def check_samples(catalogs: Path, category: str, folders: Sequence[Path]) -> None:
    """Raise DataError if an evaluation image of a category, or one of its group, is a training image or went into published samples.

    `catalogs` has a folder per category; `folders` are the methods' published folders. Raises CorruptFileError for
    tables that are missing or of another version.
    """
    files = {file.parent.name: file for file in sorted(catalogs.glob(f"*/{CATALOG}"))} | {category: catalogs / category / CATALOG}
    published = [Published(str(folder), folder / PLAN, folder / SOURCES, folder / CHECKPOINTS) for folder in folders]
    refuse_leaks(sample_leaks(files, category, published), category)


def sample_leaks(catalogs: Mapping[str, Path], category: str, published: Sequence[Published]) -> list[Leak]:
    """The leaks that `check_samples` refuses. `catalogs`: each category's catalog file."""
    tables = {name: read_digests(file) for name, file in catalogs.items()}
    own = tables.pop(category)
    # Another category's image may have trained the base: its pixels are known from that category's catalog.
    elsewhere = {use.sha256: use._replace(group="") for table in tables.values() for use in training_images(table)}
    return leaks(own, [*training_images(own), *(use for one in published for use in uses_of(one, elsewhere))])


def uses_of(published: Published, elsewhere: Mapping[str, Use]) -> Iterator[Use]:
    """The photographs and masks that published samples, and the networks that made them, were made from.

    `elsewhere` are images of other categories by their `sha256`.
    """
    rows = _read(published.sources)
    images = {row["sha256"]: row for row in rows if row["kind"] == "image"}
    # Keyed by path and bytes: masks of different photographs may have the same bytes.
    masks = {(row["path"], row["sha256"]): row["group"] for row in rows if row["kind"] == "mask"}
    for name, role in ROLES.items():
        for path, digest, count in _counted(published.plan, f"{name}_path", f"{name}_sha256"):
            told = f"{role} of {counted(count, 'sample')} in {published.name}"
            yield Use(path, "", "", masks.get((path, digest), ""), told) if name == "mask" else _image(path, digest, images, told)
    choices = [one for one in _table(published.plan, ["choices"])["choices"].to_pylist() if one]
    for (role, one), count in Counter(_masks_among(choices)).items():
        yield Use(one.path, "", "", masks.get(one, ""), f"{role} of {counted(count, 'sample')} in {published.name}")
    for one, count in Counter(missed for told in choices if (missed := missed_defect(told))).items():
        yield _image(one.image_path, one.image_sha256, images, f"the missed defect of {counted(count, 'sample')} in {published.name}")
    for one, count in Counter(texture for told in choices if (texture := texture_file(told))).items():
        yield elsewhere.get(one.sha256) or _image(*one, images, f"a texture of {counted(count, 'sample')} in {published.name}")
    files = {digest for _, digest in masks}
    for row in _read(published.checkpoints):
        told = f"a training image of the {row['kind']} behind {published.name}"
        for digest in sorted({*row["sources"]} - files):
            yield (
                elsewhere[digest]._replace(role=told)
                if digest in elsewhere
                else _image(images.get(digest, {}).get("path", digest), digest, images, told)
            )


def _counted(plan: Path, *columns: str) -> Iterator[tuple[str, str, int]]:
    """The path and the digest of each source in two columns of a plan, and how many samples were made from it."""
    for row in _table(plan, list(columns)).group_by(list(columns)).aggregate([([], "count_all")]).to_pylist():
        path, digest = (row[column] for column in columns)
        if digest:
            yield path, digest, row["count_all"]


def _masks_among(choices: Iterable[str]) -> Iterator[tuple[str, NamedMask]]:
    """The masks among the choices of samples, each with its role."""
    for told in choices:
        yield from (("part of the mask", one) for one in mixed_masks(told))
        yield from (("the place or likeness", one) for one in placing_masks(told))


def _image(path: str, digest: str, images: Sources, role: str) -> Use:
    known = images.get(digest, {})
    return Use(path, digest, known.get("image_digest", ""), known.get("group", ""), role)


def _read(path: Path) -> list[dict[str, Any]]:
    return _table(path, None).to_pylist()


def _table(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise CorruptFileError(
            f"Expected a table of what samples were made from at {path}, found none that can be read: {str(error).splitlines()[0]} "
            "Run `dvc checkout --force synthesize`, or `dvc repro synthesize` where an earlier version published it."
        ) from None
