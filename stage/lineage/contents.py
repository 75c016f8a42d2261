"""What each version holds, as names of extracts; kept after the first reading of a commit, since a commit does not change."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stage.core.durable import read_sealed, write_sealed
from stage.core.errors import CorruptFileError, DataError, Refusal
from stage.core.wording import counted
from stage.lineage.absent import may_have_arrived, missing_of, state_of
from stage.lineage.extracts import STORE
from stage.lineage.folders import ManifestValues, PublishedTable, samples_of, tables_of
from stage.lineage.layout import TABLES
from stage.lineage.trees import MEND, CommitTree, tree_of
from stage.lineage.versions import Version


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

    @property
    def unread(self) -> str:
        """A sentence for a message on the versions that could not be read; empty if all were."""
        names = [gap.version for gap in self.gaps]
        return f" {counted(len(names), 'version')} could not be read: {'; '.join(names)}." if names else ""


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
            for entry in samples_of(tree, files, contents.manifests) if folder == "synthesize" else tables_of(tree, folder, files):
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
