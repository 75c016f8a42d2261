"""Regenerated samples of two versions side by side."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from PIL import Image

from stage.core.errors import Refusal
from stage.datasets.pairs import decode_image, decode_mask
from stage.lineage.changes import REGENERATED
from stage.lineage.pictures import SamplePictures, pictures_of
from stage.lineage.versions import Version
from stage.report.sheets import Panel, Specimen, contact_sheet, enlargement, stacked


def before_and_after(before: Version, after: Version, changes: Sequence[dict[str, Any]], count: int) -> Image.Image:
    """A sheet per method, category and defect type with its first `count` regenerated samples, before and after.

    `changes` have a `sample_id` and a `change`, in the order of the ids. Raises Refusal if no sample was regenerated.
    """
    ids = [change["sample_id"] for change in changes if change["change"] == REGENERATED]
    types = {kind: list(some)[:count] for kind, some in groupby(ids, key=lambda one: tuple(one.split("/")[:3]))}
    if not types:
        raise Refusal(f"Expected regenerated samples to draw, found none between {before.name} and {after.name}. Leave --sheet out.")
    chosen = [sample_id for some in types.values() for sample_id in some]
    first, second = (pictures_of(version, chosen) for version in (before, after))
    sheets = [
        contact_sheet(
            [Specimen(one, (*_panels(before, first[one]), *_panels(after, second[one]))) for one in some],
            title=f"{category}, {defect}, by {method}",
            tile=128,
        )
        for (method, category, defect), some in types.items()
    ]
    return stacked(sheets)


def _panels(version: Version, pictures: SamplePictures) -> Iterator[Panel]:
    image, mask = Image.fromarray(decode_image(pictures.image)), Image.fromarray(decode_mask(pictures.mask))
    yield from enlargement(version.name[:12], image, mask)[:2]
