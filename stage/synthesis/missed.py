"""More samples of what a segmenter misses: which types get them, and from which real defects (docs/decisions/0020)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd

from stage.core.digests import derived_seed
from stage.core.section import Listed
from stage.core.synthesis_params import Synthesize
from stage.datasets.examples import CATALOG
from stage.datasets.found import FoundDefect, read_noted
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_pool
from stage.synthesis.plan import DefectSource, one_of
from stage.synthesis.rows import Identity, PlanRow


class Missed(NamedTuple):
    """A defect type whose real defects are missed: how many samples it gets beyond `synthesize.count`, and the paths of the photographs."""

    defect: str
    extra: int
    photographs: Annotated[tuple[str, ...], Listed]


def missed_types(found: Iterable[FoundDefect], catalog: pd.DataFrame, params: Synthesize) -> tuple[Missed, ...]:
    """The types of a category that get more samples, sorted.

    A type gets `missed_share` of the count, times the share of its defects that are missed. Only defects of the catalog's training part
    count, so no test image can be among them, whatever the file says.
    """
    if not params.missed_share:
        return ()
    pool = training_pool(catalog)
    known = set(pool.loc[pool.defect != GOOD, ["defect", "image_path", "mask_sha256"]].itertuples(index=False, name=None))
    judged = [one for one in found if (one.defect, one.image_path, one.mask_sha256) in known]
    types = [_of_type(defect, [one for one in judged if one.defect == defect], params) for defect in sorted({one.defect for one in judged})]
    return tuple(one for one in types if one.extra)


def missed_here(data: Path, category: str, params: Synthesize) -> tuple[Missed, ...]:
    """`missed_types` for a category in the project's data folder, by what `environment` noted there."""
    found = read_noted(data, category) if params.missed_share else []
    return missed_types(found, read_catalog(data / "prepare" / category / CATALOG), params) if found else ()


def _of_type(defect: str, judged: Sequence[FoundDefect], params: Synthesize) -> Missed:
    missed = tuple(sorted(one.image_path for one in judged if one.is_missed))
    return Missed(defect, round(params.missed_share * params.count * len(missed) / len(judged)), missed)


class MissedDefects:
    """The missed defects of a category, for the rows that are planned because of them: those of the ordinals from `synthesize.count` on."""

    def __init__(self, count: int, missed: Sequence[Missed], defects: Mapping[str, Sequence[DefectSource | None]]) -> None:
        """`defects` are the generator's third, with None in the place of each that was recalled."""
        self.count, self.extra = count, {one.defect: one.extra for one in missed}
        by_path = {one.image_path: one for some in defects.values() for one in some if one is not None}
        self.places = {one.defect: [by_path.get(path) for path in one.photographs] for one in missed}

    def drawn(self, identity: Identity, seed: int) -> DefectSource | None:
        """The missed defect that a row is planned for, by its seed; None for any other row, or if all of them were recalled."""
        places = self.places.get(identity.defect, ())
        if not self.count <= identity.ordinal < self.count + self.extra.get(identity.defect, 0) or not any(places):
            return None
        return one_of(places, np.random.default_rng(derived_seed(seed, "missed")))


def with_reason(row: PlanRow, missed: DefectSource | None) -> PlanRow:
    """The row; its `choices` name the missed defect that it is planned for, if there is one."""
    if missed is None:
        return row
    return row._replace(choices=json.dumps({**json.loads(row.choices or "{}"), "missed": missed._asdict()}))
