"""The record of one sample to be made; the columns of the plan, and the first ones of every shard."""

from typing import NamedTuple


class PlanRow(NamedTuple):
    """One sample to be made; docs/data.md describes the columns. Paths are relative to the data set's root.

    What begins with `mask_` is all that the mask is made from (`placement.sample_mask`), and what it must then be.
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
    mask_path: str
    mask_sha256: str
    mask_kind: str
    mask_turn: int
    mask_shift_y: int
    mask_shift_x: int
    mask_seed: int
    mask_area: int
    mask_digest: str
    foreground: str
    licence: str
