"""OpenLineage's client, and what all of our events share (https://openlineage.io/spec/2-0-2/OpenLineage.json).

They go to `.spool/openlineage.jsonl`, a line per event, or where OpenLineage's own configuration (`OPENLINEAGE_URL`,
`OPENLINEAGE_CONFIG` or `openlineage.yml`) says. An event that cannot be sent stops no run; without the package, there are no events.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from stage.core.work import SPOOL

Result = TypeVar("Result")
EVENTS = SPOOL / "openlineage.jsonl"
CONFIGURATION = Path("openlineage.yml")  # of the client, in the working folder
NAMESPACE = "stage-factory"
NIGHT = "nightly"  # the job of a night, whose run is the parent of all runs in it
PARENT = "STAGE_PARENT_FLOW_RUN"  # environment variable; names the run that started this process, a night's or a Prefect flow's
PRODUCER = "urn:stage-factory"  # events require a URI; the project has no address of its own


def quietly(work: Callable[[], Result]) -> Result | None:
    """The result of the work; None without the package, or, with a line on stderr, if it fails: somebody else's server must not end a run."""
    if find_spec("openlineage") is None:
        return None
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # each transport raises its own
        sys.stderr.write(f"OpenLineage: an event was not sent: {error!r}. The run goes on.\n")
        return None


def event_client() -> Any:
    """OpenLineage's client, configured by its own rules; without a configuration, it writes to EVENTS."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.file import FileConfig, FileTransport

    if _is_configured() or CONFIGURATION.is_file():
        return OpenLineageClient()
    EVENTS.parent.mkdir(exist_ok=True)
    return OpenLineageClient(transport=FileTransport(FileConfig(log_file_path=str(EVENTS), append=True)))


def variables_for_runs(parent: str) -> dict[str, str]:
    """The environment of programs that work in another folder, by which their runs' events name their parent and go where ours do."""
    if _is_configured():
        return {PARENT: parent}
    if CONFIGURATION.is_file():
        return {PARENT: parent, "OPENLINEAGE_CONFIG": str(CONFIGURATION.resolve())}
    transport = {"type": "file", "log_file_path": str(EVENTS.resolve()), "append": True}
    return {PARENT: parent, "OPENLINEAGE__TRANSPORT": json.dumps(transport)}


def _is_configured() -> bool:
    return any(name.startswith("OPENLINEAGE") for name in os.environ)


def source_code(path: str) -> dict[str, Any]:
    """The facet of where a job's code lies, by its name; none outside a git repository."""
    from openlineage.client.facet_v2 import source_code_location_job

    commit = _git("rev-parse", "HEAD")
    remote = _git("remote", "get-url", "origin") or "."
    told = source_code_location_job.SourceCodeLocationJobFacet("git", _uri(remote), path=path, version=commit)
    return {"sourceCodeLocation": told} if commit else {}


def _uri(remote: str) -> str:
    """The address of a git remote as the URI that the facet requires, without a password; a path and `git@host:folder` are converted."""
    if "://" in remote:
        return re.sub("(?<=://)[^/]*@", "", remote)
    host, colon, folder = remote.partition(":")
    return f"ssh://{host}/{quote(folder.lstrip('/'), safe='/%')}" if colon and "/" not in host else Path(remote).resolve().as_uri()


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
