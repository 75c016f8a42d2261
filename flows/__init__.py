"""Orchestration: one Prefect flow per DVC stage. Settings of Prefect and OpenMP are set here, because both read them when imported."""

import atexit
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from stage.core.processes import collect_rarely, keep_memory
from stage.core.proxies import drop_certificates

RESUME_NOTE = "Interrupted. Finished work is kept in .spool; run the same command to continue."
INTERRUPTED = 130  # exit status
ROOT = Path(__file__).resolve().parent.parent
PROFILES = Path(os.environ.get("HOME", "/")) / ".prefect" / "profiles.toml"

SETTINGS = {
    "PREFECT_HOME": str(ROOT / ".prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The console shows progress and one message at the end; Prefect's own log goes to its server.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # OpenMP threads that spin become very slow as soon as anything else uses the CPU.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End an uncaught Ctrl-C, for example while Prefect is imported, as a flow ends it; an error keeps its traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"{RESUME_NOTE}\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)  # Python would end by the signal, without an exit status


sys.excepthook = _end_quietly

if find_spec("prefect") is None:
    sys.exit(
        f"Expected Prefect in the Python that runs this, found none in {sys.executable}. Run `make setup`, then `. .venv/bin/activate`."
    )
if PROFILES.exists():  # what the user configured by `prefect config set` or `prefect cloud login` stays in force
    os.environ.setdefault("PREFECT_PROFILES_PATH", str(PROFILES))
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
drop_certificates()
collect_rarely()  # before Prefect's thousand modules
keep_memory()

finished: list[int] = []  # the exit status of this process's flow, once there is one


@atexit.register  # registered before every library's handlers, so it runs last
def _skip_teardown() -> None:
    """End the process of a finished flow at once: freeing what torch and Prefect hold would take 2 s more."""
    if finished:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(finished[0])
