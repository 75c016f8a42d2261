"""A process ends with its parent, also where the parent was faster; and it uses again the memory that it freed."""

import ctypes
import os
import signal
import subprocess
import sys

import psutil
import pytest

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


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_freed_memory_is_used_again() -> None:
    """A training on the CPU would spend a sixth of its time on pages that the kernel clears."""
    code = """
import resource
import numpy as np
from stage.core.processes import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**23, np.uint8)  # 2,048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_memory()
faults()
print(first, faults())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    returned, kept = map(int, said.split())

    assert kept < returned / 10
