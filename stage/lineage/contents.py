"""What each version holds, as names of extracts; kept after the first reading of a commit, since a commit does not change."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stage.core.durable import read_sealed, sealed_values, write_sealed
from stage.core.errors import CorruptFileError, DataError, Refusal
from stage.lineage.absent import may_have_arrived, missing_of, state_of
from stage.lineage.extracts import STORE, keep_beside, keep_samples, keep_table
from stage.lineage.layout import BESIDE, METHOD, TABLES, whose
from stage.lineage.trees import DATA, MEND, CommitTree, Tree, WorkingTree, tree_of
from stage.lineage.unchanged import expect_tables, is_as_last_seen, note_seen
from stage.lineage.versions import Version

DIFFERENCES = "differences.parquet"  # beside the scores
ManifestValues = dict[str, Any]


class PublishedTable(NamedTuple):
    """A table of a version: its kind, its category and method (which may be empty), and its extract."""

    kind: str
    category: str
    method: str
    file: str


class Contents(NamedTuple):
    """The tables of a version, its manifests in short, and sentences on what could not be read."""

    version: Version
    entries: list[PublishedTable]
    manifests: list[ManifestValues]
    gaps: list[str]


class Gap(NamedTuple):
    """What a query did not see: a version, and why."""

    version: str
    why: str


class History(NamedTuple):
    """The versions of a query that could be read, and what could not."""

    contents: list[Contents]
    gaps: list[Gap]

    @property
    def names(self) -> str:
        """The names of the versions that were read, for a message."""
        return ", ".join(contents.version.name for contents in self.contents)


def history_of(versions: Sequence[Version], *, strict: bool, needs_samples: bool = True) -> History:
    """What the versions hold. Raises Refusal if none has samples, and with `strict` the first error of any of them.

    Unless the question `needs_samples`, a version with a catalog alone will do. Without `strict`, a version that cannot be read is a gap, which every answer names: the data of old versions may be gone.
    """
    known = {version: _kept(version, strict=strict) for version in versions}
    unread = [version for version, contents in known.items() if contents is None]
    known |= {version: _read(version) for version in _shown(unread)}
    found = [contents for contents in known.values() if contents]
    if strict and (wrong := [why for contents in found for why in contents.gaps]):
        raise CorruptFileError(wrong[0])
    gaps = [Gap(contents.version.name, why) for contents in found for why in contents.gaps]
    if not any(contents.manifests or (not needs_samples and contents.entries) for contents in found):
        told = gaps[0].why if gaps else "none under data/synthesize. Run `dvc repro`, or name a version that has them."
        raise Refusal(f"Expected published samples in {', '.join(one.name for one in versions)}, found {told}")
    gaps += [Gap(one.version.name, "no samples were published in it") for one in found if not one.manifests and not one.gaps]
    return History([one for one in found if one.entries], [*gaps, *_missing(found)])


def _missing(found: Iterable[Contents]) -> Iterator[Gap]:
    """What is missing in the working tree, which is no error even if nothing else is asked for: a run may be half finished."""
    for contents in found:
        categories = sorted({manifest["category"] for manifest in contents.manifests})
        if not contents.version.commit and (files := missing_of(categories)):
            yield Gap(contents.version.name, f"Expected {', '.join(files)}, which dvc.lock names, found no such file. {MEND}")


def _shown(unread: Sequence[Version]) -> Iterable[Version]:
    """Versions that must be read, with a bar where there are several."""
    if len(unread) < 2:
        return unread
    from stage.core.progress import track

    return track(unread, total=len(unread), label="read versions")


def _kept(version: Version, *, strict: bool) -> Contents | None:
    """What an earlier query found in a commit; None for the working tree, or if the record is missing or damaged or an extract is missing.

    A commit that could not be read whole is tried again if asked with `strict`, or once its data may have arrived.
    """
    try:
        told = read_sealed(record_of(version))
    except (OSError, ValueError):
        return None
    gaps = told.get("gaps", [])
    if gaps and (strict or may_have_arrived(told["cache"], told["state"], record_of(version))):
        return None
    entries = [PublishedTable(*entry) for entry in told["entries"]]
    return Contents(version, entries, told["manifests"], gaps) if all((STORE / entry.file).is_file() for entry in entries) else None


def _read(version: Version) -> Contents:
    """What a version holds; kept for a commit."""
    contents = Contents(version, [], [], [])
    tree = tree_of(version)
    for folder in ("synthesize", *TABLES):
        try:
            files = tree.files(folder)
            for entry in _samples(tree, files, contents.manifests) if folder == "synthesize" else _tables(tree, folder, files):
                contents.entries.append(entry)
        except (CorruptFileError, DataError) as error:
            contents.gaps.append(str(error))
    if isinstance(tree, CommitTree):
        keep_contents(contents, tree.cache if contents.gaps else "")
    return contents


def keep_contents(contents: Contents, cache: str = "") -> None:
    """Note what a commit holds, for later queries; where it has gaps, also DVC's `cache`, from which they could be filled."""
    told = {"entries": contents.entries, "manifests": contents.manifests}
    told |= {"gaps": contents.gaps, "cache": cache, "state": state_of(cache)} if contents.gaps else {}
    write_sealed(told, record_of(contents.version))


def record_of(version: Version) -> Path:
    """The file that notes what a commit holds."""
    return STORE / f"commit-{version.commit or 'none'}.json"


def _samples(tree: Tree, files: dict[str, str], manifests: list[ManifestValues]) -> Iterator[PublishedTable]:
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


def _tables(tree: Tree, folder: str, files: dict[str, str]) -> Iterator[PublishedTable]:
    depth, file, kind = TABLES[folder]
    for path, content in files.items():
        _, *whose, name = PurePosixPath(path).parts
        if len(whose) != depth - 1 or name not in (file, DIFFERENCES):
            continue
        category, method = (*whose, "")[:2]
        of = kind if name == file else "differences"
        yield PublishedTable(of, category, method, keep_table(tree, path, of, content))
