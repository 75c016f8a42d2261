"""A process ends with its parent, also where the parent was faster."""

import os
import signal
import subprocess
import sys

import psutil

CHILD = (
    "import sys, time; from stage.core.processes import end_with; end_with(int(sys.argv[1])); print('alive', flush=True); time.sleep(600)"
)
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
child.wait()
"""


def test_a_child_dies_with_its_parent() -> None:
    """A killed run would leave a worker on the GPU, where the next run finds no room."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    said, pid = parent.stdout.readline().split()
    assert said == "alive"
    child = psutil.Process(int(pid))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    gone, _ = psutil.wait_procs([child], timeout=30)

    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_a_child_whose_parent_is_gone_already_dies_at_once() -> None:
    """A run killed while its workers start would leave them behind."""
    no_parent = psutil.Process(os.getppid()).pid  # not the parent of what is started here
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(no_parent)], stdout=subprocess.PIPE, text=True)
    said, _ = child.communicate(timeout=60)

    assert (said, child.returncode) == ("", -signal.SIGKILL)
