"""Read and write the shared disk: durable writes, looks at what is there. Moves that never overwrite are in moves.py,
the disk's clock in clock.py.

A network disk may report an error for an action that succeeded. If its answer is lost, the request is sent again, and the
second answer looks as if somebody else had been quicker. This table says what is believed then (transient: patience.py):

| call | error | what may have happened | what is believed |
|---|---|---|---|
| renameat2 | transient | anything | if the source is there: tried again; if it has gone: the destination |
| renameat2, again | ENOENT, EEXIST | the first one was done | done if the destination is the file that was seen at the source |
| symlink of a placeholder | transient, then EEXIST | we made it | ours if its target says so |
| rename over our placeholder | any | it was done | done if the placeholder and the source have gone |
| the same | transient to the end | it happens later | the error; the placeholder stays: it may become the job |
| unlink, rmdir, again | ENOENT | the first one was done | done |
| mkdir, link, symlink, again | EEXIST | the first one was done | done, where nobody else makes that name |
| write of a journal | transient | a part or all of it | written again: an entry folded twice counts once, a part never parses |
| fsync | transient | pages were dropped | everything written since the last good fsync is written again |

A file at the destination does not show who moved it there. Only a worker itself moves files into its own directory. When a
job is completed after trouble, the journals show whether somebody else had taken it back (stages/complete.py).
"""

from __future__ import annotations

import contextlib
import os
import stat

from jobjar.shared_disk.creating import common_mode as common_mode, open_shared, set_mode, write_whole
from jobjar.shared_disk.patience import FLICKER_S, do_once, is_transient, patience, patiently as patiently
from jobjar.shared_disk.regular import UnfitFile, read_regular


def rename(source: str, destination: str) -> None:
    """Rename, and replace what is at `destination`. No other process may move these names: if the source is missing and the
    destination is there, the rename has happened. Raises OSError."""
    try:
        patiently(lambda: os.rename(source, destination), source)
    except FileNotFoundError:
        if look(destination) is None:
            raise


def look(path: str) -> os.stat_result | None:
    """Return the status (lstat) of what is at `path`; None if nothing is there, or nothing that this user may see. Unlike
    os.path.lexists, it does not take a disk in trouble for a missing file: it raises OSError after FLICKER_S."""
    try:
        return read_status(path, FLICKER_S)
    except OSError as error:
        if is_transient(error):
            raise
        return None


def is_gone(path: str, is_patient: bool = True) -> bool:
    """Whether certainly nothing is at `path`; False if this user may not see it. For a disk in trouble it raises OSError after
    FLICKER_S. Without `is_patient` the answer is False at once."""
    try:
        read_status(path, FLICKER_S) if is_patient else os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        if is_patient and is_transient(error):
            raise
    return False


def read_status(path: str, deadline_s: float | None = None) -> os.stat_result:
    """lstat with patience, for a path at which something should be. Raises OSError."""
    return patiently(lambda: os.lstat(path), path, deadline_s)


def follow_status(path: str, deadline_s: float | None = None) -> os.stat_result:
    """`read_status`, but of what a link leads to. Raises OSError."""
    return patiently(lambda: os.stat(path), path, deadline_s)


def list_names(path: str, deadline_s: float | None = None) -> list[str]:
    """os.listdir with patience; listing.py has the entries of a jar's directories. Raises OSError."""
    return patiently(lambda: os.listdir(path), path, deadline_s)


def list_if_there(path: str) -> list[str]:
    """The names in a directory; none if it is missing. Raises OSError for a disk in trouble, after FLICKER_S."""
    try:
        return list_names(path, FLICKER_S)
    except FileNotFoundError:
        return []


def is_directory(path: str) -> bool:
    """os.path.isdir with patience for a disk in trouble. Raises OSError if the trouble lasts."""
    try:
        return stat.S_ISDIR(follow_status(path).st_mode)
    except OSError as error:
        if is_transient(error):
            raise
        return False


def may_write_to(path: str) -> bool:
    """Whether this user may create and move files in a directory."""
    for _ in range(3):  # access(2) answers no for a disk in trouble
        if os.access(path, os.W_OK | os.X_OK):
            return True
        troubles = patience.troubles
        follow_status(path)
        if patience.troubles == troubles:
            break
    return os.access(path, os.W_OK | os.X_OK)


def make_directory(path: str, mode: int = 0o777) -> None:
    """mkdir, with patience: it may have happened in a try that failed. Raises FileExistsError, OSError."""
    do_once(lambda: os.mkdir(path, mode), path, FileExistsError)


def remove_file(path: str) -> None:
    """Remove a file, which may have gone already. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        patiently(lambda: os.unlink(path), path)


def link_target(path: str) -> str | None:
    """Return where a symbolic link finally leads; None if the link has gone or leads nowhere."""
    try:
        target = os.path.realpath(path)
    except FileNotFoundError:  # it went while realpath looked at it
        return None
    return None if look(target) is None else target


def open_common_file(path: str, flags: int) -> int:
    """Open a file that all users of a jar write to; create it if missing. Raises UnfitFile if something else is there
    (creating.py), OSError."""
    return patiently(lambda: open_shared(path, flags), path)


def look_afresh(directory: str) -> os.stat_result | None:
    """Return a directory's status as its server has it now; None if it cannot be opened.

    An NFS client answers stat(2) from its cache for up to a minute. It also believes that a name is missing until it learns
    that the directory changed. Opening the directory makes the client ask the server.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    return None


def sync_directory(path: str) -> None:
    """Make renames into and out of a directory durable. Raises OSError."""
    patiently(lambda: _sync_directory(path), path)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Make the content of a file of this user durable. Raises OSError."""
    # Open it for writing only: MooseFS does not sync through a descriptor that may read and has not written.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError, also if the disk fills up midway: there is no short write."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a small file whole: temporary name, fsync, rename. Readers see the old file or the new one. Raises OSError."""
    write_whole(path, data, mode)


def read_file(path: str, deadline_s: float | None = None, size: int = -1) -> bytes:
    """Read a small regular file, or its first `size` bytes. Raises UnfitFile if something else is there, OSError."""
    return read_regular(path, deadline_s, size)


def free_bytes(directory: str) -> int:
    """How many bytes more users without privileges may write to the disk of `directory`. Raises OSError."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def write_if_other(path: str, data: bytes, mode: int, syncs: bool = True) -> None:
    """Write a small file whole, of exactly this mode, unless it has this content already. Raises OSError."""
    try:
        is_same = read_file(path) == data
    except (FileNotFoundError, UnfitFile):
        is_same = False
    if is_same:
        set_mode(path, mode)
    else:
        write_whole(path, data, mode, syncs, is_exact=True)


def is_job_file(status: os.stat_result) -> bool:
    """Whether this is a regular file with a run bit, which is all that a job has to be."""
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)
