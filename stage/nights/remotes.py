"""Checks the remotes of git and DVC for `stage doctor`; only git's over the network."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from stage.core.paths import nearest_existing
from stage.core.redaction import without_secrets
from stage.nights.machine import Finding
from stage.nights.programs import DVC, ProgramError, output_of
from stage.nights.settings import Nightly, Places

PACKAGES = {"s3": "dvc_s3", "gs": "dvc_gs", "azure": "dvc_azure", "ssh": "dvc_ssh", "oss": "dvc_oss", "hdfs": "dvc_hdfs"}  # by scheme
# Where S3's clients look for credentials; an instance's role can be asked for only over the network.
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
URL = re.compile(r"remote\.(.+)\.url")
OPTIONS = ("access_key_id", "profile", "credentialpath", "allow_anonymous_login")  # of a remote in DVC's configuration


def code_remote(places: Places, settings: Nightly, commit: str) -> Finding:
    """Whether git's remote answers and would take a push, which this only rehearses; `commit` is one that it has."""
    remote, branch = settings.remote, f"{settings.branch}-rehearsed"
    try:
        output_of(["git", "push", "--quiet", "--dry-run", "--no-verify", remote, f"{commit}:refs/heads/{branch}"], places.root)
    except ProgramError as error:
        return _not_pushed(places, remote, error)
    address = output_of(["git", "remote", "get-url", "--push", remote], places.root).strip()
    folder = places.root / address.removeprefix("file://")
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):  # a rehearsal writes nothing
        return Finding("fails", "git remote", f"{folder} may not be written", f"Correct its permissions, or the address of {remote}.")
    return Finding("fine", "git remote", f"{remote} answers and takes a push")


def _not_pushed(places: Places, remote: str, error: ProgramError) -> Finding:
    try:
        output_of(["git", "ls-remote", "--heads", remote], places.root)
    except ProgramError as away:
        return Finding("fails", "git remote", str(away), f"Run `git ls-remote {remote}`.")
    mend = f"Get the right to write there, or run `git remote set-url {remote} <address of your own repository>`."
    return Finding("fails", "git remote", f"{remote} can be read, but takes no push: {error}", mend)


def data_remotes(places: Places, _settings: Nightly) -> Iterator[Finding]:
    """Each remote of DVC: a folder that can be written, or a package and credentials for the network."""
    lines = output_of([*DVC, "config", "--list"], places.root).splitlines()
    told = {key: value for key, _, value in (line.partition("=") for line in lines)}
    addresses = {found[1]: value for key, value in told.items() if (found := URL.fullmatch(key))}
    if not addresses:
        yield Finding("look", "DVC remote", "none; the data stay on this disk", "Run `dvc remote add --default <name> <address>`.")
    for name, address in addresses.items():
        if "://" in address:
            yield _distant(name, address, {*told})
        else:
            yield _near(Path(address))


def _near(folder: Path) -> Finding:
    home = nearest_existing(folder)  # DVC makes what is missing
    closed = next((place for place in _objects(folder) if not os.access(place, os.W_OK | os.X_OK)), None)
    if closed:
        mend = f"Correct the permissions of all below {folder / 'files'}, which somebody else may have made."
        return Finding("fails", "DVC remote", f"{folder}: {closed} may not be written, or entered", mend)
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        found = "may not be written, or entered" if home.is_dir() else "is a file"
        return Finding(
            "fails", "DVC remote", f"{folder}: {home} {found}", "Correct its permissions, or its address in DVC's configuration."
        )
    if not folder.exists():
        mend = "Run `dvc push`, which makes it; or mount its disk, if it was there before."
        return Finding("look", "DVC remote", f"{folder} does not exist", mend)
    return Finding("fine", "DVC remote", str(folder))


def _objects(folder: Path) -> Iterator[Path]:
    """The folders, at most 258, in which DVC keeps its files by their digests."""
    with suppress(PermissionError):
        yield from (place for name in ("files", "files/md5", "files/md5/*") for place in folder.glob(name) if place.is_dir())


def _distant(name: str, address: str, configured: set[str]) -> Finding:
    kind, told = urlsplit(address).scheme, without_secrets(address)
    package = PACKAGES.get(kind)
    if package and find_spec(package) is None:
        mend = "Run `pip install '.[s3]'`." if kind == "s3" else f"Run `pip install 'dvc[{kind}]'`."
        return Finding("fails", "DVC remote", f"{told} needs the package {package}, found none", mend)
    if kind == "s3" and not _has_credentials(name, configured):
        return Finding(
            "look", "DVC remote", f"{told}: no credentials in the environment, ~/.aws or DVC's configuration; a role of the machine is not asked for",
            f"Run `dvc remote modify --local {name} profile <profile>`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )  # fmt: skip
    return Finding("look", "DVC remote", f"{told} was not checked, since that needs the network", "Run `dvc push`.")


def _has_credentials(name: str, configured: set[str]) -> bool:
    if any(os.environ.get(variable) for variable in VARIABLES):
        return True
    if any(Path(os.environ.get(variable, place)).expanduser().is_file() for variable, place in FILES.items()):
        return True
    return any(f"remote.{name}.{option}" in configured for option in OPTIONS)
