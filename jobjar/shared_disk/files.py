"""What touches the shared disk: durable writes, a look at what is there. Moves, which never overwrite, are in moves.py.

A network disk may report an error for what it did: an answer is lost, the request is sent again, and is answered as if
somebody else had been quicker. What is believed then (patience.py tells which errors are transient):

| call | error | what may have happened | what is believed |
|---|---|---|---|
| renameat2 | transient | anything | the source is there: tried again; it has gone: the destination |
| renameat2, again | ENOENT, EEXIST | the first one was done | done if the destination is the file that was seen at the source |
| symlink of a placeholder | transient, then EEXIST | it was ours | ours if its target says so |
| rename over our placeholder | any | it was done | done if that is not there any more, and the source has gone |
| the same | transient to the end | it is done later | the error; the placeholder stays: it may become the job |
| unlink, rmdir, again | ENOENT | the first one was done | done |
| mkdir, link, symlink, again | EEXIST | the first one was done | done, where nobody else makes that name |
| write of a journal | transient | a part, or all | written again: an entry folded twice is one, a part never parses |
| fsync | transient | pages were dropped | what was written since the last good one is written again |

That a file lies at the destination does not say who moved it there. Into a worker's own directory only that worker moves;
of a job that is completed after trouble, the journals tell whether somebody else had taken it back (stages/complete.py).
"""

from __future__ import annotations

import contextlib
import os
import stat

from jobjar.shared_disk.creating import (
    common_mode as common_mode,
    create_file,
    open_shared,
    temporary_path,
    write_whole,
)
from jobjar.shared_disk.patience import FLICKER_S, do_once, is_transient, patience, patiently as patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over, read_regular


def rename(source: str, destination: str) -> None:
    """Rename, replacing what is at `destination`, for names that no other process moves: a missing source has been moved
    if the destination is there. Raises OSError."""
    try:
        patiently(lambda: os.rename(source, destination), source)
    except FileNotFoundError:
        if look(destination) is None:
            raise


def look(path: str) -> os.stat_result | None:
    """What is at `path` (lstat); None where nothing is, or nothing that this user may see. Unlike os.path.lexists it does
    not take a disk in trouble for a missing file: raises OSError after a moment."""
    try:
        return patiently(lambda: os.lstat(path), path, FLICKER_S)
    except OSError as error:
        if is_transient(error):
            raise
        return None


def is_gone(path: str) -> bool:
    """Whether there is certainly nothing at `path`; not where this user may not see it. Raises OSError for a disk in trouble."""
    try:
        patiently(lambda: os.lstat(path), path, FLICKER_S)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        if is_transient(error):
            raise
    return False


def is_directory(path: str) -> bool:
    """os.path.isdir with patience for a disk in trouble."""
    try:
        return stat.S_ISDIR(patiently(lambda: os.stat(path), path).st_mode)
    except OSError as error:
        if is_transient(error):
            raise
        return False


def may_write_to(path: str) -> bool:
    """Whether this user may make and move files in a directory."""
    for _ in range(3):  # access(2) gives a disk in trouble as a no
        if os.access(path, os.W_OK | os.X_OK):
            return True
        troubles = patience.troubles
        patiently(lambda: os.stat(path), path)
        if patience.troubles == troubles:
            break
    return os.access(path, os.W_OK | os.X_OK)


def make_directory(path: str, mode: int = 0o777) -> None:
    """mkdir; one that failed with a transient error and had happened is fine. Raises FileExistsError, OSError."""
    do_once(lambda: os.mkdir(path, mode), path, FileExistsError)


def remove_file(path: str) -> None:
    """unlink; a file that has gone is fine. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        patiently(lambda: os.unlink(path), path)


def link_target(path: str) -> str | None:
    """Where a symbolic link leads, through whatever others; None where it has gone, or leads nowhere."""
    try:
        target = os.path.realpath(path)
    except FileNotFoundError:  # between realpath's two looks at it
        return None
    return None if look(target) is None else target


def is_taken_away(path: str) -> bool:
    """Whether what was at `path` is certainly not there any more; what the disk does not tell now is not certain."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def disk_time(status: os.stat_result) -> float:
    """When the file was last moved, by the clock of the disk that holds it (UTC epoch seconds, to the microsecond)."""
    return round(status.st_ctime, 6)


def open_common_file(path: str, flags: int) -> int:
    """Open a file that all users of a jar write to, made where missing (creating.py: what else lies there is refused). Raises
    UnfitFile, OSError."""
    return patiently(lambda: open_shared(path, flags), path)


def read_disk_clock(path: str) -> float:
    """The disk's own time now, read by touching the file at `path` (made where missing)."""
    return patiently(lambda: _touch_and_read(path), path)


def _touch_and_read(path: str) -> float:
    temporary = None
    try:
        descriptor = open_shared(path, os.O_WRONLY)
    except UnfitFile as error:
        pass_over(path, error.strerror)
        temporary = temporary_path(path)
        descriptor = create_file(temporary, 0o600)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        if temporary is not None:
            os.unlink(temporary)


def look_afresh(directory: str) -> os.stat_result | None:
    """A directory's status as its server has it now; None where it cannot be opened.

    An NFS client answers stat(2) from what it remembers, for up to a minute, and goes on believing that a name is missing
    until it learns that the directory changed. Opening the directory asks the server.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    return None


def sync_directory(path: str) -> None:
    """Make the renames into and out of a directory durable."""
    patiently(lambda: _sync_directory(path), path)


def _sync_directory(path: str) -> None:
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


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a small file whole: a temporary name, fsync, rename. Readers see the old one or the new one."""
    write_whole(path, data, mode)


def read_file(path: str, deadline_s: float | None = None, size: int = -1) -> bytes:
    """All of a small file, or its first `size` bytes. Raises UnfitFile where something else lies there, OSError."""
    return read_regular(path, deadline_s, size)


def is_job_file(status: os.stat_result) -> bool:
    """A regular file with a run bit: all that a job has to be."""
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)
