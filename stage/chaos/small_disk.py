"""Full disks for tests: a small disk that only one process sees, or a limit on the size of files."""

import ctypes
import mmap
import os
import resource
from pathlib import Path

PAGE = mmap.PAGESIZE  # bytes; the disk has room for whole pages
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000  # from <linux/sched.h>; Python 3.12 has them in `os`


def mount_small_disk(folder: Path, pages: int) -> None:
    """Mount a disk with room for `pages` over a folder, for this process only, which must have a single thread.

    Raises OSError if the kernel or the container does not let a user mount anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")  # only then may a user map a group
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={(pages + 1) * PAGE}".encode()))
    (folder / ".taken").write_bytes(bytes(PAGE))  # a size of 0 would mean no limit


def limit_files(size: int) -> None:
    """Let writes beyond `size` bytes of any file fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
