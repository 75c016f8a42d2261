"""The pages' links from samples in the gallery to what they were made from, and from photographs and networks to all samples."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from stage.lineage.made_from import COLUMNS, SourceFile, made_from
from stage.model.base_pointer import origin_in_words
from stage.release.reader import shard_paths
from stage.report.artefacts import Row, query_rows, stream_rows
from stage.report.photographs import Photograph
from stage.synthesis.schema import CHECKPOINTS

OWN_COLUMNS = ("sample_id", "method", "seed", "attempt", "verdict", "reason", "contrast", "image_digest", "checkpoint", "base")
NAMED = 200  # samples without a picture that a photograph's section names, per way of use


class SampleSource(NamedTuple):
    """A file that a sample was made from, and the photograph that it belongs to, unless the catalog no longer has it."""

    source: SourceFile
    photograph: Photograph | None


class SampleLineage(NamedTuple):
    """A sample's own columns (OWN_COLUMNS), what it was made from, and the digests of its networks."""

    told: Row
    origins: tuple[SampleSource, ...]

    @property
    def networks(self) -> list[str]:
        """Adapters and base; none for a method without training."""
        return [digest for digest in (self.told["checkpoint"], self.told["base"]) if digest]


@dataclass
class SamplesMade:
    """The samples made from a photograph or network: how many by each method, those with a picture, and the first of the others."""

    by_method: Counter[str] = field(default_factory=Counter[str])
    pictured: list[str] = field(default_factory=list[str])
    named: list[str] = field(default_factory=list[str])

    def add(self, method: str, sample_id: str, *, has_picture: bool) -> None:
        """Count a sample."""
        self.by_method[method] += 1
        if has_picture:
            self.pictured.append(sample_id)
        elif len(self.named) < NAMED:
            self.named.append(sample_id)

    @property
    def unnamed(self) -> int:
        """The number of samples that are only counted."""
        return self.by_method.total() - len(self.pictured) - len(self.named)


class Network(NamedTuple):
    """A network that made samples; `trained_on` are photographs of this category, `digests` all files that trained it."""

    anchor: str
    kind: str
    digest: str
    base: str
    origin: str
    trained_on: list[Photograph]
    digests: frozenset[str]


@dataclass(frozen=True)
class CategoryLineage:
    """The lineage of one category. `samples` are those with a picture; `uses` are by a photograph's anchor and roles, `made` by a network's digest."""

    photographs: list[Photograph]
    networks: dict[str, Network]
    samples: dict[str, SampleLineage]
    uses: dict[str, dict[str, SamplesMade]]
    made: dict[str, SamplesMade]

    @cached_property
    def by_path(self) -> dict[str, Photograph]:
        """The photographs by their paths; a real defect in the gallery is known by its path."""
        return {one.path: one for one in self.photographs}

    def trained_by(self, photograph: Photograph) -> list[Network]:
        """The networks that were trained on a photograph."""
        return [one for one in self.networks.values() if photograph.sha256 in one.digests]


def read_lineage(
    data: Path, category: str, methods: Sequence[str], photographs: list[Photograph], pictured: Collection[str]
) -> CategoryLineage:
    """What all published samples of a category were made from, in full for the ids in `pictured`; raises CorruptFileError."""
    by_file = {file: one for one in photographs for file in one.files}
    found = CategoryLineage(photographs, _networks(data, category, methods, photographs), {}, {}, {})
    for row in _rows(data, category, methods):
        sample, has_picture = _lineage(row, by_file), row["sample_id"] in pictured
        if has_picture:
            found.samples[row["sample_id"]] = sample
        for use in _used(sample, found):
            use.add(row["method"], row["sample_id"], has_picture=has_picture)
    return found


def trained_elsewhere(network: Network, others: Iterable[tuple[str, CategoryLineage]]) -> list[tuple[str, int]]:
    """How many photographs of each other category trained a network, by name; a base has seen all of them."""
    counted = [(name, sum(one.sha256 in network.digests for one in lineage.photographs)) for name, lineage in others]
    return [(name, count) for name, count in counted if count]


def _rows(data: Path, category: str, methods: Sequence[str]) -> Iterator[Row]:
    for method in methods:
        yield from stream_rows(shard_paths(data / "synthesize" / category / method), [*OWN_COLUMNS, *COLUMNS])


def _lineage(row: Row, by_file: dict[tuple[str, str], Photograph]) -> SampleLineage:
    origins = tuple(SampleSource(one, by_file.get((one.path, one.sha256))) for one in made_from(row))
    return SampleLineage({name: row[name] for name in OWN_COLUMNS}, origins)


def _used(sample: SampleLineage, found: CategoryLineage) -> Iterator[SamplesMade]:
    """The tallies that count a sample: one per photograph, with all its roles, and one per network."""
    roles: dict[str, list[str]] = {}
    for source, photograph in sample.origins:
        if photograph:
            roles.setdefault(photograph.anchor, []).append(source.role)
    for anchor, some in roles.items():
        yield found.uses.setdefault(anchor, {}).setdefault(", ".join(dict.fromkeys(some)), SamplesMade())
    for digest in sample.networks:
        yield found.made.setdefault(digest, SamplesMade())


def _networks(data: Path, category: str, methods: Sequence[str], photographs: list[Photograph]) -> dict[str, Network]:
    files = [data / "synthesize" / category / method / CHECKPOINTS for method in methods]
    rows = {row["digest"]: row for row in query_rows(files, ["digest", "kind", "base", "facts", "sources"])}
    found: dict[str, Network] = {}
    for number, (digest, row) in enumerate(rows.items()):
        known = frozenset(row["sources"])
        own = [one for one in photographs if one.sha256 in known]
        origin = origin_in_words(json.loads(row["facts"]))
        found[digest] = Network(f"n{number}", row["kind"], digest, row["base"], origin, own, known)
    return found
