"""Plans samples in rounds. A sample is a pure function of its row, the checkpoint and the parameters.

The first round plans every sample; each later round plans the rejected ones again, with the next attempt. A batch has one defect type.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from stage.core.digests import derived_seed
from stage.core.errors import DataError
from stage.core.synthesis_params import Synthesize
from stage.datasets.rules import GOOD
from stage.datasets.table import training_part, training_pool
from stage.synthesis.rows import Identity, NamedMask, PlanRow

Item = TypeVar("Item")
Candidate = TypeVar("Candidate", "Background", "DefectSource")
FIRST_ATTEMPT = 0


class Background(NamedTuple):
    """What a plan row copies from a normal photograph's entry in the catalog."""

    image_path: str
    image_sha256: str
    licence: str
    foreground_strategy: str


class DefectSource(NamedTuple):
    """A real defect of the generator's third."""

    image_path: str
    image_sha256: str
    mask_path: str
    mask_sha256: str

    @property
    def mask(self) -> NamedMask:
        """Its mask by path and bytes."""
        return NamedMask(self.mask_path, self.mask_sha256)


def first_round(
    method: str, category: str, defects: Iterable[str], params: Synthesize, extra: Mapping[str, int] = {}
) -> Iterator[list[Identity]]:
    """Batches of `count` identities per defect type (IV-A), sorted by type and ordinal; the last batch of a type is filled up.

    `extra`: how many more a type gets.

    A network call renders a whole batch anyway, and the rows of a batch must not depend on `count`.
    """
    for defect in sorted(defects):
        for start in range(0, params.count + extra.get(defect, 0), params.batch):
            yield [Identity(method, category, defect, k, FIRST_ATTEMPT) for k in range(start, start + params.batch)]


def next_round(rejected: Sequence[Identity], size: int) -> Iterator[list[Identity]]:
    """Batches of the next attempts of rejected samples, sorted by type and ordinal; the last batch of a type may be shorter."""
    for _, same in groupby(sorted(rejected), key=lambda one: one.defect):
        again = [one._replace(attempt=one.attempt + 1) for one in same]
        yield from (again[start : start + size] for start in range(0, len(again), size))


def row_seed(root_seed: int, identity: Identity) -> int:
    """The seed of all random numbers of a sample; it does not depend on shard, device, worker or time."""
    return derived_seed(root_seed, *identity)


def backgrounds_of(catalog: pd.DataFrame) -> list[Background]:
    """The normal training images of a category."""
    training = training_part(catalog)
    return _rows(training.loc[training.defect == GOOD], Background)


def defects_of(catalog: pd.DataFrame) -> Mapping[str, list[DefectSource]]:
    """The generator's third of a category, by defect type."""
    training = training_part(catalog)
    groups = training.loc[training.defect != GOOD].groupby("defect", sort=True)
    return {str(defect): _rows(group, DefectSource) for defect, group in groups}


def background_pool(catalog: pd.DataFrame) -> list[Background | None]:
    """The normal training images of a category; None in the place of each that was recalled."""
    pool = training_pool(catalog)
    return _places(pool.loc[pool.defect == GOOD], Background)


def defect_pool(catalog: pd.DataFrame) -> Mapping[str, list[DefectSource | None]]:
    """The generator's third of a category, by defect type; None in the place of each that was recalled. A type with nothing left is absent."""
    pool = training_pool(catalog)
    groups = {str(defect): _places(group, DefectSource) for defect, group in pool.loc[pool.defect != GOOD].groupby("defect", sort=True)}
    return {defect: places for defect, places in groups.items() if any(places)}


def one_of(some: Sequence[Item | None], random: np.random.Generator) -> Item:
    """One of the items, all equally likely. A draw that hits the place of a recalled item, None, is repeated, so no other draw changes."""
    if all(one is None for one in some):
        raise DataError(f"Expected something to draw from, found {len(some)} place(s), all recalled. Add photographs and run `dvc repro`.")
    while (chosen := some[int(random.integers(len(some)))]) is None:
        pass
    return chosen


def defect_of(some: Sequence[DefectSource | None], identity: Identity, root_seed: int, use: str = "defect") -> DefectSource:
    """The real defect whose turn it is: every run of as many ordinals as there are defects takes each of them once, in an order of its own.

    The order of a `use` is the same for all methods, so that samples of two methods differ by what these make of a defect, and none is
    left out by chance. The next attempt has another order, since a faint defect may fail again. In the place of a recalled one, None,
    another is drawn, and no other sample changes.
    """
    run, place = divmod(identity.ordinal, len(some))
    chosen = some[_order(derived_seed(root_seed, use, identity.category, identity.defect, identity.attempt, run), len(some))[place]]
    return chosen or one_of(some, np.random.default_rng(derived_seed(root_seed, use, *identity)))


@lru_cache(64)
def _order(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).permutation(count).tolist()


def empty_row(identity: Identity, settings: str, seed: int, background: Background) -> PlanRow:
    """The row of a sample on a background, before its method has chosen the mask."""
    return PlanRow(
        sample_id=identity.sample_id,
        ordinal=identity.ordinal,
        attempt=identity.attempt,
        seed=seed,
        settings=settings,
        method=identity.method,
        category=identity.category,
        defect=identity.defect,
        prompt="",
        background_path=background.image_path,
        background_sha256=background.image_sha256,
        source_path="",
        source_sha256="",
        mask_path="",
        mask_sha256="",
        mask_kind="",
        mask_turn=0,
        mask_shift_y=0,
        mask_shift_x=0,
        mask_seed=0,
        mask_area=0,
        mask_digest="",
        choices="",
        foreground="none",
        licence=background.licence,
    )


def _places(table: pd.DataFrame, kind: type[Candidate]) -> list[Candidate | None]:
    is_left = (table.status == "accepted").tolist()
    return [row if left else None for row, left in zip(_rows(table, kind), is_left, strict=True)]


def _rows(table: pd.DataFrame, kind: type[Candidate]) -> list[Candidate]:
    return [kind(*row) for row in table[list(kind._fields)].itertuples(index=False)]
