"""Checks a published sample by itself, and against its plan row and its sources."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stage.core.errors import CorruptFileError
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import PIXELS, decode_image, decode_mask
from stage.release.shards import JsonObject
from stage.synthesis.marking import mark
from stage.synthesis.rows import Identity, NamedMask, PlanRow, missed_defect, mixed_masks, placing_masks, texture_file
from stage.synthesis.schema import CHECKPOINTS, PLAN, SOURCES

SHOWN = 200  # characters of a text from the data that a message shows


class KnownDigests(NamedTuple):
    """Digests that samples may name: photographs and masks of the training side, and networks; and those of `tested` images, which none may.

    `has_own_textures`: textures are cut from the category's own backgrounds.
    """

    backgrounds: frozenset[str]
    defective: frozenset[str]
    masks: frozenset[str]
    checkpoints: frozenset[str]
    tested: frozenset[str]
    has_own_textures: bool


def sample_problems(row: dict[str, Any], shard: JsonObject, lineage: KnownDigests | None) -> Iterator[str]:
    """The problems of a sample by itself. `shard`: its entry in the manifest, with the manifest's method and category."""
    if empty := [name for name, value in row.items() if _is_null(value, name)]:
        yield f"expected a value in every column, found none in {', '.join(empty)}"
        return
    if row["sample_id"] != (expected := Identity(*(row[name] for name in Identity._fields)).sample_id):
        yield f"expected the id {expected}"
    for name, told in (("method", "method"), ("category", "category"), ("defect", "defect type")):
        if row[name] != shard[name]:
            yield f"expected the {told} {shard[name]!r} by the manifest, found {row[name]!r}"
    yield from _pictures(row)
    if lineage is not None:
        yield from _sources(row, lineage)


def _is_null(value: Any, name: str) -> bool:
    """Whether a value is missing: null, a picture without bytes, or a list with a null."""
    return value is None or (name in PIXELS and value["bytes"] is None) or (isinstance(value, list) and None in value)


def _pictures(row: dict[str, Any]) -> Iterator[str]:
    """The problems of a sample's image and mask."""
    sizes: dict[str, tuple[int, ...]] = {}
    for name, decode in (("image", decode_image), ("mask", decode_mask)):
        try:
            pixels: np.ndarray = decode(row[name]["bytes"])
            info = Image.open(io.BytesIO(row[name]["bytes"]), formats=("PNG",)).info
        except CorruptFileError as error:
            yield f"column {name}: {error}"
            continue
        sizes[name] = pixels.shape[:2]
        if (found := pixel_digest(pixels)) != row[f"{name}_digest"]:
            yield f"column {name}: expected pixels of digest {row[f'{name}_digest'][:16]}…, found {found[:16]}…"
        told = {key: value for key, value in info.items() if key != "xmp"}  # Pillow's second name of the same chunk
        if told != mark(row["sample_id"]):
            yield f"column {name}: expected the PNG to say that it is synthetic and which sample it is, found {str(told)[:SHOWN]}"
    if len({*sizes.values()}) > 1:
        yield f"expected an image and a mask of one size, found {sizes['image']} and {sizes['mask']}"


def _sources(row: dict[str, Any], lineage: KnownDigests) -> Iterator[str]:
    if row["background_sha256"] not in lineage.backgrounds:
        yield f"expected a background among the training images of {SOURCES}, found {row['background_path']!r}"
    if row["source_sha256"] and row["source_sha256"] not in lineage.defective:
        yield f"expected a photograph of the generator's third in {SOURCES}, found {row['source_path']!r}"
    if row["mask_sha256"] and row["mask_sha256"] not in lineage.masks:
        yield f"expected a mask of the generator's third in {SOURCES}, found {row['mask_path']!r}"
    try:
        yield from list(_chosen(row["choices"], lineage))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # no JSON, or not such as a plan has
        yield f"expected choices that name their files by path and digest, found {row['choices'][:SHOWN]!r}"
    if not {row["checkpoint"], row["base"]} <= (lineage.checkpoints or {""}):  # for a method without networks, both are empty
        yield f"expected its checkpoint and base in {CHECKPOINTS}, found no such digest there"


def _chosen(choices: str, lineage: KnownDigests) -> Iterator[str]:
    """The problems of the masks, the missed defect and the texture that a sample's choices name."""
    missed, texture = missed_defect(choices), texture_file(choices)
    masks = [*mixed_masks(choices), *placing_masks(choices), *([NamedMask(*missed[2:])] if missed else [])]
    for mask in masks:
        if mask.sha256 not in lineage.masks:
            yield f"expected a mask of the generator's third in {SOURCES} among its choices, found {mask.path!r}"
    if missed and missed.image_sha256 not in lineage.defective:
        yield f"expected a missed defect of the generator's third in {SOURCES}, found {missed.image_path!r}"
    if texture and (texture.sha256 not in lineage.backgrounds if lineage.has_own_textures else texture.sha256 in lineage.tested):
        yield f"expected a texture of the training side in {SOURCES}, or from elsewhere, found {texture.path!r}"


def plan_problems(row: dict[str, Any], planned: dict[str, Any] | None) -> Iterator[str]:
    """The differences of a sample from its plan row; `planned` is None if the plan has no more rows."""
    if planned is None:
        yield f"expected no more samples than {PLAN} has, found one more"
    else:
        names = [name for name in PlanRow._fields if row[name] != planned[name]]
        if names:
            yield f"expected the next row of {PLAN}, {planned['sample_id']}, found another value of {', '.join(names)}"
