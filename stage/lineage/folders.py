"""Reads the folders of a version: each published table becomes an extract, once it is found to be what its manifest names."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stage.core.durable import read_sealed, sealed_values, write_sealed
from stage.core.errors import CorruptFileError
from stage.lineage.extracts import STORE, keep_beside, keep_samples, keep_table
from stage.lineage.layout import BESIDE, METHOD, TABLES, whose
from stage.lineage.trees import DATA, MEND, Tree, WorkingTree
from stage.lineage.unchanged import expect_tables, is_as_last_seen, note_seen

DIFFERENCES = "differences.parquet"  # beside the scores
ManifestValues = dict[str, Any]


class PublishedTable(NamedTuple):
    """A table of a version: its kind, its category and method (which may be empty), and its extract."""

    kind: str
    category: str
    method: str
    file: str


def samples_of(tree: Tree, files: dict[str, str], manifests: list[ManifestValues]) -> Iterator[PublishedTable]:
    """The tables of every published folder; its manifest is added to `manifests`."""
    for path in files:
        if (found_in := whose(path)) is None:
            continue
        (category, method), folder = found_in, path.rpartition("/")[0]
        manifest = _manifest(tree, folder)
        # In a commit, DVC names files by their content; in the working tree, a file may be damaged after its extract was made.
        is_new = isinstance(tree, WorkingTree) and not is_as_last_seen(folder, files, manifest)
        if is_new:
            expect_tables(folder, manifest)
        found = [("samples", keep_samples(tree, folder, manifest, again=is_new))]
        found += [(kind, keep_beside(tree, folder, f"{kind}.parquet", manifest)) for kind in BESIDE[manifest["schema_version"]]]
        if is_new:
            note_seen(folder, files, manifest)
        yield from (PublishedTable(kind, category, method, name) for kind, name in found)
        manifests.append({"category": category, "method": method, **_in_short(manifest)})
    if bare := sorted(folder for folder in _with_shards(files) if f"{folder}/manifest.json" not in files):
        raise CorruptFileError(f"Expected {DATA}/{bare[0]}/manifest.json, found shards without it. {MEND}")


def _with_shards(files: Iterable[str]) -> set[str]:
    return {path.rpartition("/shards/")[0] for path in files if "/shards/" in path}


def _manifest(tree: Tree, folder: str) -> ManifestValues:
    """The manifest of a published folder, sealed and of a schema version that can be read."""
    place = Path(DATA, folder)
    with tree.open(f"{folder}/manifest.json") as file:
        content = file.read()
    try:
        values = sealed_values(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"Expected {place / 'manifest.json'} as it was published, found {error}. {MEND}") from None
    if not _short(values).is_file():
        from stage.release.manifest import check_manifest  # here, because it loads pandas, and what was checked has its seal

        check_manifest({"method": METHOD, **values}, place, tuple(BESIDE))
    return values


def _in_short(manifest: ManifestValues) -> ManifestValues:
    """The parts of a manifest that queries use; `rendering` are the inputs that decide how a planned row is rendered and judged."""
    try:
        return {key: value for key, value in read_sealed(_short(manifest)).items() if key != "seal"}
    except (OSError, ValueError):
        from stage.jobs.inputs import deciding  # here, because it loads torch, and a second query need not

        told = {key: manifest[key] for key in ("digest", "count", "accepted", "rejected", "job", "inputs")}
        told |= {"rendering": sorted(deciding(manifest["inputs"])), "published": manifest["seal"]}
        write_sealed(told, _short(manifest))
        return told


def _short(manifest: ManifestValues) -> Path:
    return STORE / f"manifest-{manifest['seal']}.json"


def tables_of(tree: Tree, folder: str, files: dict[str, str]) -> Iterator[PublishedTable]:
    """The catalogs, or the scores with their differences: the tables of the kind of `folder`, and of no manifest."""
    depth, file, kind = TABLES[folder]
    for path, content in files.items():
        _, *whose, name = PurePosixPath(path).parts
        if len(whose) != depth - 1 or name not in (file, DIFFERENCES):
            continue
        category, method = (*whose, "")[:2]
        of = kind if name == file else "differences"
        yield PublishedTable(of, category, method, keep_table(tree, path, of, content))
