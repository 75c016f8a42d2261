"""`nightly.yaml` as typed values, and the folders of the night."""

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from stage.core.params import read_section
from stage.core.section import Positive, Seconds, Section, Share, Text

SETTINGS = Path("nightly.yaml")
FOLDER = ".nightly"  # below the project's root, ignored by git


def _reference(name: str) -> str:
    """A valid name of a git branch or remote, which git never takes for an option."""
    if (
        not name
        or name.startswith("-")
        or name.endswith((".", "/", ".lock"))
        or ".." in name
        or any(letter in name for letter in " ~^:?*[\\")
    ):
        raise ValueError("this is the name of a branch or a remote of git")
    return name


Reference = Annotated[Text, AfterValidator(_reference)]


class Gate(Section):
    """What a version must reach to be tagged."""

    accepted: Share
    fidelity: Share


class Nightly(Section):
    """The whole file; names, lengths of time and bounds as annotated there."""

    drop: Annotated[Text, Field(min_length=1)]
    settle_s: Seconds
    upstream: Reference
    branch: Reference
    remote: Reference
    limit_h: Annotated[float, Field(gt=0, le=168)]  # a week
    gate: Gate
    keep: Positive
    keep_nights: Positive
    keep_log_mb: Positive
    port: Annotated[int, Field(ge=1024, lt=65_536)]


class Places(NamedTuple):
    """Where a project's nights live; `root` is the project's, absolute."""

    root: Path

    @property
    def home(self) -> Path:
        """The folder of everything that belongs to the nights."""
        return self.root / FOLDER

    @property
    def worktree(self) -> Path:
        """The git worktree in which the night works; kept from night to night, with its spool and outputs."""
        return self.home / "worktree"

    @property
    def nights(self) -> Path:
        """The folder with a record and a folder for each night."""
        return self.home / "nights"

    @property
    def lock(self) -> Path:
        """The lock file that a night holds while it runs; the kernel releases it when the process ends."""
        return self.home / "lock"

    @property
    def holder(self) -> Path:
        """A file that names a holder of the lock that is not a night."""
        return self.home / "holder"

    @property
    def webhook(self) -> Path:
        """A file with the address that failures are posted to; not in `nightly.yaml`, since an address may hold a secret."""
        return self.home / "webhook"

    def drop(self, settings: Nightly) -> Path:
        """Where new photographs arrive."""
        return self.root / settings.drop


def load_nightly(root: Path) -> Nightly:
    """The settings of a project's nights. Raises ConfigError for a missing file, and for every unknown, missing or wrong key at once."""
    example = f"`git log --patch {SETTINGS}` shows each line as it came"
    return read_section(root / SETTINGS, Nightly, what="the settings of the night", example=example)
