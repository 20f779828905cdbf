"""What touches the shared disk: moves that never overwrite, durable writes, which disks are local.

A move is one rename. Killed at any instant, a file is at its old place or its new one, never at both, never at none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable

from jobjar.jobname import numbered_name

LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "zfs", "f2fs", "jfs", "bcachefs")
)

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_renameat2: Callable[..., int] | None = None
_looked_for_renameat2 = False


def _load_renameat2() -> Callable[..., int] | None:
    global _renameat2, _looked_for_renameat2
    if not _looked_for_renameat2:
        _looked_for_renameat2 = True
        if sys.platform == "linux":
            import ctypes

            _renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return _renameat2


def move(source: str, destination: str) -> None:
    """Rename `source` to `destination`, which must not exist.

    Raises FileExistsError (nothing moved), FileNotFoundError (somebody else moved it first), OSError.
    """
    rename = _load_renameat2()
    if rename is not None:
        import ctypes

        if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        # NFS and others refuse the flag: the name is taken with O_EXCL instead, which one process wins everywhere.
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), source, None, destination)
    _move_over_own_placeholder(source, destination)


def _move_over_own_placeholder(source: str, destination: str) -> None:
    """`move` where the file system has no rename that refuses to overwrite.

    Killed midway it leaves an empty file without the run bit at the destination, which is not a job.
    """
    descriptor = os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    placeholder = os.fstat(descriptor).st_ino
    os.close(descriptor)
    try:
        os.rename(source, destination)
    except OSError:
        # A failed rename may have happened (NFS retransmits): believe the destination, not the error.
        if _inode(destination) == placeholder:
            os.unlink(destination)
            raise


def _inode(path: str) -> int | None:
    """The inode at `path`; None where it has gone: a file that came there was moved on already."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def move_to_free_name(source: str, directory: str, name: str) -> str:
    """Move `source` into `directory` as `name`, or `name~2`, `name~3` … where taken. Returns the name it got."""
    taken_name = name
    number = 2
    while True:
        try:
            move(source, f"{directory}/{taken_name}")
            return taken_name
        except FileExistsError:
            taken_name = numbered_name(name, number)
            number += 1


def is_taken_away(path: str) -> bool:
    """Whether what was at `path` is certainly not there any more; what the disk does not tell now is not certain."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def server_time(status: os.stat_result) -> float:
    """When the file was last moved, by the clock of the disk that holds it (UTC epoch seconds, to the microsecond)."""
    return round(status.st_ctime, 6)


def open_common_file(path: str, flags: int) -> int:
    """Open a file that all users of a jar write to, made where missing: its group may write it if its directory's may,
    whatever this process's umask is. Raises OSError."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags | os.O_CLOEXEC)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if os.stat(os.path.dirname(path)).st_mode & 0o020:
                os.fchmod(descriptor, 0o660)
            return descriptor


def read_server_clock(path: str) -> float:
    """The disk's own time now, read by touching the file at `path` (made where missing)."""
    descriptor = open_common_file(path, os.O_WRONLY)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Make the renames into and out of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; a disk that fills up midway is an OSError, not a short write."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: str, data: bytes, mode: int = 0o640) -> None:
    """Write a small file whole: a temporary name, fsync, rename. Readers see the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def is_job_file(status: os.stat_result) -> bool:
    """A regular file with a run bit: all that a job has to be."""
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)


def is_local(path: str) -> bool:
    """Whether the disk under `path` is this host's own. Unknown file systems count as network disks."""
    if sys.platform != "linux":
        return True
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return _is_local_in(os.path.realpath(path), lines.read().splitlines())


def _is_local_in(path: str, mountinfo: list[str]) -> bool:
    """`is_local` by the lines of a mountinfo table (proc(5)): the last of the longest mount points wins."""
    longest = -1
    file_system = ""
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        mount_point = before.split()[4].replace("\\040", " ").replace("\\011", "\t")
        inside = path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= longest:
            longest = len(mount_point)
            file_system = after.split()[0]
    # What is written to an overlay goes to its upper layer, and overlayfs refuses a network disk as that.
    return file_system in LOCAL_FILE_SYSTEMS or file_system == "overlay"
