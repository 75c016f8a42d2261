"""The records of one sample: what is to be made, what came of it, and where that comes from. Together, the columns of every shard."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """`contrast`: mean absolute difference to the background inside the mask; `outside`: largest one outside it; both of 255.

    Of the mask's `components`, `visible` ones lie on cells of the latent grid, half of their pixels or more, and have contrast enough.
    """

    contrast: float
    outside: int
    components: int
    visible: int
    verdict: str
    reason: str


class Origin(NamedTuple):
    """What made the samples of a batch: digests of everything that decides their pixels, and what it ran on."""

    batch_key: str
    checkpoint: str
    base: str
    parameters: str
    code: str
    timesteps: tuple[int, ...]
    versions: str
    device: str


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
