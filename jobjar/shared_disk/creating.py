"""Create and open files to write in a directory where other people write too: the members of a group's jar, /var/tmp.

A new file gets a name that nobody can foresee, in a directory that is open already, and is made by this process or not at
all (O_EXCL, no link followed). A file that is there is looked at before a byte is written: a regular one, with one name, of
this user, of root, or of who owns its directory, by user or by group. Killed midway,
`<name>.<pid>+<PID namespace>.<random>.new` stays, which leftovers.py removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from jobjar.liveness import MARK, mark
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile, open_regular

# What a killed process leaves, as leftovers.py looks for it: after the name, the mark of its maker (liveness.MARK). Earlier
# versions had no random part.
TEMPORARY = rf"\.{MARK}(?:\.[0-9a-f]{{16}})?\.new"
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 100


def unforeseen() -> str:
    """16 letters and digits that nobody can foresee."""
    return os.urandom(8).hex()


def temporary_path(path: str) -> str:
    """A name beside `path` for what is to become it."""
    return f"{path}.{mark()}.{unforeseen()}.new"


def create_file(path: str, mode: int, flags: int = os.O_WRONLY, dir_fd: int | None = None) -> int:
    """Make a file that was not there, and open it. Raises FileExistsError (also where a link lies there), OSError."""
    return os.open(path, flags | _NEW, mode, dir_fd=dir_fd)


def create_anew(path: str, mode: int, flags: int = os.O_WRONLY) -> int:
    """`create_file` of a name that is the caller's alone: what an earlier try left there is removed; a link that somebody put
    there is not followed."""
    try:
        return create_file(path, mode, flags)
    except FileExistsError:
        os.unlink(path)
        return create_file(path, mode, flags)


def open_directory(path: str) -> int:
    """A directory to make files in, whatever its path leads to by then."""
    return os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)


def write_whole(path: str, data: bytes, mode: int, syncs: bool = True) -> None:
    """Write a small file whole: a temporary name, fsync, rename. Readers see the old one or the new one. A link at `path` is
    replaced. Without `syncs` a power failure may leave an empty file. Raises OSError."""
    directory = patiently(lambda: open_directory(os.path.dirname(path) or "."), path)
    try:
        write_whole_in(directory, path, data, mode, syncs)
    finally:
        os.close(directory)


def write_whole_in(directory: int, path: str, data: bytes, mode: int, syncs: bool = True) -> None:
    """`write_whole` in an open directory; of `path` the last name counts, the rest is for messages. Raises OSError."""
    # Written anew where the fsync fails: a second one would not write what the first one dropped.
    temporary = patiently(lambda: _write_temporary(directory, path, data, mode, syncs), path)
    try:
        move_between(directory, temporary, directory, os.path.basename(path), path)
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(temporary, dir_fd=directory)
        raise


def move_between(source: int, name: str, target: int, new_name: str, path: str) -> None:
    """Rename in and between open directories, replacing what is there, for names that no other process moves. `path` is for
    messages. Raises OSError."""
    try:
        patiently(lambda: os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target), path)
    except FileNotFoundError:
        # A failed rename may have happened (NFS sends requests again): nobody else moves this name.
        if not _is_there(new_name, target):
            raise


def make_directory_in(directory: int, name: str, path: str, mode: int = 0o777) -> None:
    """mkdir in an open directory; one that is there, or that failed with a transient error and had happened, is fine. Raises
    OSError."""
    with contextlib.suppress(FileExistsError):
        patiently(lambda: os.mkdir(name, mode, dir_fd=directory), path)


@contextlib.contextmanager
def opened(open_it: Callable[[], int], path: str) -> Iterator[int]:
    """A descriptor, closed at the end."""
    descriptor = patiently(open_it, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_temporary(directory: int, path: str, data: bytes, mode: int, syncs: bool) -> str:
    name = os.path.basename(temporary_path(path))
    try:
        descriptor = create_file(name, mode, dir_fd=directory)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from error  # a path that a person can find
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if syncs:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(name, dir_fd=directory)
        raise
    return name


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def open_shared(path: str, flags: int) -> int:
    """Open a file that all users of a jar write to, made where missing: who may read its directory may read it, and its group
    may write it if its directory's may, whatever this process's umask is.

    Raises UnfitFile where what lies there is not such a file (then nothing of it was touched), OSError.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return open_own(path, flags)
        with contextlib.suppress(FileExistsError):
            descriptor = create_file(path, 0o600, flags)
            try:
                os.fchmod(descriptor, common_mode(os.path.dirname(path)))
            except OSError:
                os.close(descriptor)
                raise
            return descriptor
    raise UnfitFile(errno.EEXIST, "it is there, and it is not", path)


def open_own(path: str, flags: int) -> int:
    """Open a regular file that is there, to write. Raises as `open_shared`, FileNotFoundError."""
    descriptor = open_regular(path, flags)
    try:
        reason = _why_not_ours(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    if reason is not None:
        os.close(descriptor)
        raise UnfitFile(errno.EPERM, f"{reason}: somebody else put it there; nothing is written to it. Remove it", path)
    return descriptor


def _why_not_ours(status: os.stat_result, path: str) -> str | None:
    if status.st_nlink > 1:
        return "it has another name elsewhere"
    if status.st_uid in (os.geteuid(), 0):
        return None
    above = os.stat(os.path.dirname(path) or ".")
    if status.st_uid == above.st_uid or status.st_gid == above.st_gid:
        return None
    return f"it belongs to user {status.st_uid} and group {status.st_gid}, not to those of its directory"


def common_mode(directory: str) -> int:
    """The mode of a file in `directory` that its users share: who may read or write the one may do so with the other."""
    return 0o600 | os.stat(directory).st_mode & 0o064


def find_untrusted(path: str) -> str | None:
    """Why what lies in a directory may not be what this user put there; None where it is. Raises OSError."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"{path} is writable by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return find_untrusted_above(path, trusts_owners=False)


def find_untrusted_above(path: str, trusts_owners: bool = True) -> str | None:
    """Why others could put another directory where `path` is: on the way lies one in which everybody may rename what is there,
    or what somebody else made in one that everybody writes to (a link, say); without `trusts_owners`, anything of another user's.
    """
    above = os.path.abspath(path)
    while above != "/":
        above = os.path.dirname(above)
        status = os.lstat(above)
        is_foreign = status.st_uid not in (0, os.geteuid())
        if is_foreign and (not trusts_owners or os.stat(os.path.dirname(above)).st_mode & 0o002):
            return f"{above} belongs to user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            refused = find_untrusted_above(f"{os.path.realpath(above)}/x", trusts_owners)
            if refused is not None:
                return refused
        # A sticky directory, as /var/tmp, lets nobody move what is another's.
        elif status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
            return f"{above} is writable by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None
