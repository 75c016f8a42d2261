"""Runs a flow inside a DVC stage: one Prefect server for all, a clean end in every case, one message for bad input."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import httpx
from prefect import Flow, tags
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.states import Cancelled, Failed

from flows import INTERRUPTED, RESUME_NOTE, finished, server
from flows.lineage_events import with_events
from flows.owner import end_with_owner
from stage.core.device import limit_threads
from stage.core.durable import refusing_full_disks
from stage.core.errors import Refusal
from stage.core.openlineage import PARENT
from stage.core.params import Params, load_params
from stage.core.progress import Interrupted, stop_on_signals
from stage.core.proxies import drop_proxies, users_certificates
from stage.core.redaction import for_terminal
from stage.core.wording import counted

if TYPE_CHECKING:
    from prefect.settings.context import SettingKey

NO_CERTIFICATES: dict["SettingKey", Any] = {PREFECT_API_SSL_CERT_FILE: ""}  # Prefect opens the file for every address
STARTUP_S = 90  # of a temporary server; Prefect's own 20 s are not enough on a machine under load
API_TROUBLE = (
    httpx.HTTPError,
    httpx.InvalidURL,
    PrefectException,
    RuntimeError,
    OSError,
    ValueError,
    ImportError,
)  # also of a user's proxy


def run(flow: Flow[..., Any], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a flow as a process: exit 0 when it completes, 1 with a message on bad input, 130 when interrupted.

    `arguments` are the command line's. Anything unexpected keeps its traceback.
    """
    end_with_owner()
    try:
        params = load_params()
        values = _parse(flow, sys.argv[1:] if arguments is None else arguments, params)
        limit_threads(params.execution.threads)
        finished.append(with_events(flow.name, values, params, lambda: _run_once(flow, values)))
        sys.exit(finished[0])
    except (KeyboardInterrupt, TerminationSignal):
        _say(RESUME_NOTE)
        sys.exit(INTERRUPTED)
    except Refusal as error:
        sys.exit(for_terminal(str(error)))


def _parse(flow: Flow[..., Any], given: Sequence[str], params: Params) -> dict[str, str]:
    """The flow's arguments by name; a category must be one of params.yaml."""
    names = list(inspect.signature(flow.fn).parameters)
    values = dict(zip(names, given, strict=False))
    if len(given) != len(names):
        usage = " ".join([f"python -m flows.{flow.name}", *(name.upper() for name in names)])
        raise Refusal(f"Expected {counted(len(names), 'argument')}, found {len(given)} on the command line. Run `{usage}`.")
    for name, known in (("category", params.categories), ("method", params.methods)):
        if name in values and values[name] not in known:
            told = f"Expected {name.upper()} to be one of {', '.join(known)}, found {values[name]!r} on the command line."
            raise Refusal(f"{told} See params.yaml.")
    return values


@dataclass
class RunResult:
    """The outcome of the flow's own code, whether or not Prefect could record it."""

    status: int | None = None  # None: not begun
    error: Exception | None = None


def _run_once(flow: Flow[..., Any], values: dict[str, str]) -> int:
    """The exit status of the flow, run against the first API that answers; raises the flow's own error."""
    outcome = RunResult()
    settled = flow.with_options(flow_run_name=" ".join([flow.name, *values.values()]))
    settled.fn = _settling(flow.fn, outcome)
    for api in (_shared_api, _ephemeral_api):
        try:
            with api(), tags(*_parent_tag()):
                settled(**values, return_state=True)
        except API_TROUBLE as trouble:
            _say(f"Prefect did not answer and could not record all of this run: {trouble!r}")
        if outcome.status is not None:
            break
    if outcome.error:
        raise outcome.error
    if outcome.status is None:
        raise RuntimeError("Expected one of two Prefect APIs to start the flow, found neither working; see .prefect/server.log.")
    return outcome.status


def _settling(function: Callable[..., Any], outcome: RunResult) -> Callable[..., Any]:
    """The flow's function; it stores its outcome and tells Prefect whether it was cancelled, refused or failed."""

    @functools.wraps(function)
    def settle(*args: Any, **kwargs: Any) -> Any:
        stop_on_signals()  # here, because Prefect's own handler would end the flow between any two lines
        os.environ[PARENT] = str(flow_run.id)
        outcome.status = 1
        try:
            with refusing_full_disks():
                result = function(*args, **kwargs)
        except Interrupted:
            _say(RESUME_NOTE)
            outcome.status = INTERRUPTED
            return Cancelled(message=RESUME_NOTE)
        except Exception as error:
            outcome.error = error
            if isinstance(error, Refusal):
                return Failed(message=for_terminal(str(error)), name="Refused")
            raise
        outcome.status = 0
        return result

    return settle


@contextmanager
def _shared_api() -> Generator[None]:
    """The user's own API if one is configured, else the server that all flows of this repository share on this machine."""
    if configured := PREFECT_API_URL.value():
        if is_loopback(configured):
            drop_proxies()
        with temporary_settings(_certificates(configured)):
            yield
        return
    drop_proxies()
    url = server.find_or_start(Path(PREFECT_HOME.value()))
    # The heartbeat's thread wakes once a second; without it, a flow ends up to a second sooner.
    with temporary_settings({**NO_CERTIFICATES, PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def _certificates(url: str) -> dict["SettingKey", Any]:
    """Prefect's setting for an address: the user's certificates if it needs any."""
    if urlsplit(url).scheme != "https":
        return NO_CERTIFICATES
    return {PREFECT_API_SSL_CERT_FILE: PREFECT_API_SSL_CERT_FILE.value() or users_certificates()}


def _ephemeral_api() -> AbstractContextManager[Any]:
    """Prefect's own temporary server, which is slow to start."""
    drop_proxies()
    patient = {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: STARTUP_S}
    return temporary_settings({**NO_CERTIFICATES, PREFECT_API_URL: None, **patient})


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _parent_tag() -> list[str]:
    return [f"parent:{os.environ[PARENT]}"] if PARENT in os.environ else []


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
