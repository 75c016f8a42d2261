"""The records of a sample (plan row, verdict and origin, which are a shard's columns beside its pixels) and of a defect type."""

import json
from collections.abc import Iterable
from typing import NamedTuple


class NamedMask(NamedTuple):
    """A real mask by its path below the data folder and the SHA-256 of its bytes."""

    path: str
    sha256: str


def mixed_masks(choices: str) -> list[NamedMask]:
    """The real masks that a sample's mask is mixed from, besides the one that its plan row names; `choices` is the row's column."""
    return _named_masks(choices, "masks")


def placing_masks(choices: str) -> list[NamedMask]:
    """The real masks that decided where a defect lies or on which background, without a pixel of it; `choices` is the row's column."""
    return _named_masks(choices, "places")


def _named_masks(choices: str, name: str) -> list[NamedMask]:
    return [NamedMask(**one) for one in json.loads(choices).get(name, ())] if choices else []


class MissedDefect(NamedTuple):
    """Photograph and mask of a missed real defect, by their paths below the data folder and the SHA-256 of their bytes."""

    image_path: str
    image_sha256: str
    mask_path: str
    mask_sha256: str


def missed_defect(choices: str) -> MissedDefect | None:
    """The missed defect that a sample is planned for (docs/decisions/0020); `choices` is the row's column."""
    told = json.loads(choices).get("missed") if choices else None
    return MissedDefect(**told) if told else None


class TextureFile(NamedTuple):
    """A texture by the path of its photograph or picture and the SHA-256 of its bytes."""

    path: str
    sha256: str


def texture_file(choices: str) -> TextureFile | None:
    """What a sample's texture is from; None if that is computed, or the sample has none. `choices` is the row's column."""
    told = json.loads(choices) if choices else {}
    return TextureFile(told["texture_path"], told["texture_sha256"]) if told.get("texture_sha256") else None


class Verdict(NamedTuple):
    """`contrast`: mean absolute difference to the background inside the mask; `outside`: largest one outside it; both of 255.

    Of the mask's `components`, `visible` do not look normal and have at least half of their pixels on cells of the latent grid.
    `margin` is the least of the defects' scores above the type's threshold, `looks_normal` the share of labelled pixels that look
    normal; `nearest_sha256` is the photograph of the training defect most like the largest defect, at `nearest_distance`.
    Without a judge (`synthesize.verdict.normal_pass` of 1) these four are 0 and empty.
    """

    contrast: float
    outside: int
    components: int
    visible: int
    margin: float
    looks_normal: float
    nearest_sha256: str
    nearest_distance: float
    verdict: str
    reason: str


class TypeRecord(NamedTuple):
    """What calibration found of a defect type; docs/data.md describes the columns of `verdict.parquet`."""

    defect: str
    photographs: int
    pastes: int
    normal_pastes: int
    threshold: float
    normal_pass: float
    real_pass: float
    unseen_pass: float
    normal_difference: float
    real_looks_normal: float
    copy_distance: float


class Origin(NamedTuple):
    """What made the samples of a batch: digests of everything that decides their pixels, and the device."""

    batch_key: str
    checkpoint: str
    base: str
    parameters: str
    code: str
    timesteps: tuple[int, ...]
    versions: str
    device: str


class Identity(NamedTuple):
    """The parts of a sample's id; with the root seed before them they also give its seed."""

    method: str
    category: str
    defect: str
    ordinal: int
    attempt: int

    @property
    def sample_id(self) -> str:
        """`stage/fabric/stain/000012/0`."""
        return f"{self.method}/{self.category}/{self.defect}/{self.ordinal:06d}/{self.attempt}"


class PlanRow(NamedTuple):
    """One sample to be made; docs/data.md describes the columns. Paths are relative to the data set's root.

    `mask_kind` to `mask_seed` say how the mask is made; it must then have `mask_area` and `mask_digest`. `source_*` name the
    photograph whose pixels become the defect; `choices` (JSON) are those that only this method makes. Both may be empty.
    """

    sample_id: str
    ordinal: int
    attempt: int
    seed: int
    settings: str
    method: str
    category: str
    defect: str
    prompt: str
    background_path: str
    background_sha256: str
    source_path: str
    source_sha256: str
    mask_path: str
    mask_sha256: str
    mask_kind: str
    mask_turn: int
    mask_shift_y: int
    mask_shift_x: int
    mask_seed: int
    mask_area: int
    mask_digest: str
    choices: str
    foreground: str
    licence: str

    @property
    def mask(self) -> NamedMask:
        """The real mask that it names; of empty texts if it names none."""
        return NamedMask(self.mask_path, self.mask_sha256)

    @property
    def identity(self) -> Identity:
        """The parts of `sample_id`."""
        return Identity(self.method, self.category, self.defect, self.ordinal, self.attempt)


def placed_by(row: PlanRow, masks: Iterable[NamedMask]) -> PlanRow:
    """The row; its `choices` name these masks, whose recall would place it anew or on another background."""
    told = [one._asdict() for one in (*placing_masks(row.choices), *masks)]
    return row._replace(choices=json.dumps({**json.loads(row.choices or "{}"), "places": told})) if told else row
