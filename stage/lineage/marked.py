"""From a PNG alone to its sample: by the file's mark and by its pixels, whatever its name and place."""

from pathlib import Path
from typing import NamedTuple

from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Database, Row, rows
from stage.lineage.layout import todays_id


class Marked(NamedTuple):
    """The id in a picture's mark as it would be today, empty without a mark, and the digests of its pixels as an image and as a mask."""

    sample_id: str
    image_digest: str
    mask_digest: str


def read_mark(file: Path) -> Marked:
    """The mark and digests of a picture; raises Refusal if the file is not one."""
    from PIL import Image  # here, because they load numpy and pandas

    from stage.datasets.images import pixel_digest
    from stage.datasets.pairs import UNDECODABLE, decode_image, decode_mask
    from stage.synthesis.marking import SAMPLE

    try:
        content = file.read_bytes()
        with Image.open(file, formats=("PNG",)) as picture:
            told = str(picture.info.get(SAMPLE, ""))
        return Marked(todays_id(told), pixel_digest(decode_image(content)), pixel_digest(decode_mask(content)))
    except UNDECODABLE as error:
        raise Refusal(
            f"Expected a PNG of a sample, found {file}, which does not decode ({type(error).__name__}). Name the file as it was exported."
        ) from None


def found_in(database: Database, history: History, file: Path) -> tuple[str, Row]:
    """The id of a file's sample, and what the tables say of the file; raises Refusal if neither its mark nor its pixels are known."""
    marked = read_mark(file)
    known = rows(database, _KNOWN, marked._asdict())
    same = [row for row in known if row["is_same"]]
    if not known:
        says = f"which says that it is {marked.sample_id}" if marked.sample_id else "which says of no sample that it is one"
        raise Refusal(
            f"Expected a PNG of a sample of {history.names}, found {file}, {says}; no sample has its pixels. Ask where the tables of "
            "its data set are, name another version with --rev, or --all."
        )
    own = [row for row in same if row["sample_id"] == marked.sample_id]
    chosen = (own or same or known)[0]
    versions = [row["version"] for row in same if row["sample_id"] == chosen["sample_id"]]
    told = "as published" if same else "other than published: edited since, or the sample of another data set that has the same id"
    return chosen["sample_id"], {"file": str(file), "says": marked.sample_id or "nothing", "pixels": told, "in_versions": versions}


# Masks of different samples may be equal, so a mask is identified by its pixels only if a single sample has it.
_KNOWN = """
SELECT s.version, sample_id, image_digest = $image_digest OR mask_digest = $mask_digest AS is_same FROM samples s JOIN versions v USING (version)
WHERE image_digest = $image_digest OR sample_id = $sample_id
    OR ($sample_id = '' AND mask_digest = $mask_digest AND (SELECT count(DISTINCT sample_id) FROM samples WHERE mask_digest = $mask_digest) = 1)
ORDER BY v.place DESC, sample_id
"""
