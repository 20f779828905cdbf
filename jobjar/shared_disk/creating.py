"""Create files, and open them for writing, in directories where other people write too: a group's jar, /var/tmp.

A new file gets an unpredictable name in a directory that is already open. O_EXCL makes sure that this process creates it, and
no link is followed. An existing file is checked before a byte is written (owners.py).
A kill midway leaves `<name>.<pid>+<PID namespace>.<random>.new`, with the node before the process where several nodes write to
the directory. leftovers.py removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from jobjar.host import node_name
from jobjar.liveness import MARK, mark, own_nodes
from jobjar.shared_disk.owners import open_own
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile

# The end of the name of a temporary file, by which leftovers.py finds what a killed process left. It has the mark of its
# maker (liveness.MARK). Earlier versions had no random part.
TEMPORARY = rf"\.{MARK}(?:\.[0-9a-f]{{16}})?\.new"
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 100


def unforeseen() -> str:
    """Return 16 unpredictable hexadecimal digits."""
    return os.urandom(8).hex()


def temporary_path(path: str) -> str:
    """Return a temporary name beside `path`, for a file that will be renamed to it."""
    return f"{path}.{mark()}.{unforeseen()}.new"


def temporary_path_of_node(path: str, kind: str = "new") -> str:
    """`temporary_path` in a directory that several nodes write to: its name ends with `.<node>.<mark>.<random>.<kind>`, after
    the last name of `path`, if it has one."""
    return f"{path}.{node_name()}.{mark()}.{unforeseen()}.{kind}"


def temporary_of_nodes(end: str = r"\.new") -> str:
    """Return the pattern of what `temporary_path_of_node` appends on the nodes whose leftovers this process may remove
    (liveness.own_nodes). `end` is the pattern of the kind. Earlier versions had other random parts, or none."""
    return rf"\.{own_nodes()}\.{MARK}(?:\.[0-9A-Za-z]+)?{end}"


def create_file(path: str, mode: int, flags: int = os.O_WRONLY, dir_fd: int | None = None) -> int:
    """Create a new file and open it. Raises FileExistsError (also for a link), OSError."""
    return os.open(path, flags | _NEW, mode, dir_fd=dir_fd)


def create_anew(path: str, mode: int, flags: int = os.O_WRONLY) -> int:
    """`create_file` for a name that only the caller uses. It first removes what an earlier try left. It follows no link."""
    try:
        return create_file(path, mode, flags)
    except FileExistsError:
        os.unlink(path)
        return create_file(path, mode, flags)


def open_directory(path: str) -> int:
    """Open a directory to create files in. The descriptor stays on that directory even if its path changes."""
    return os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)


def write_whole(path: str, data: bytes, mode: int, syncs: bool = True, is_exact: bool = False) -> None:
    """Write a small file whole: temporary name, fsync, rename. Readers see the old file or the new one. A link at `path` is
    replaced. Without `syncs`, a power failure may leave an empty file. `is_exact`: the umask takes nothing of `mode`. Raises
    OSError."""
    directory = patiently(lambda: open_directory(os.path.dirname(path) or "."), path)
    try:
        write_whole_in(directory, path, data, mode, syncs, is_exact)
    finally:
        os.close(directory)


def write_whole_in(
    directory: int, path: str, data: bytes, mode: int, syncs: bool = True, is_exact: bool = False
) -> None:
    """`write_whole` in an open directory. Only the last name of `path` is used; messages show the whole. Raises OSError."""
    # If the fsync fails, the file is written again: a second fsync would not write the pages that the first one dropped.
    temporary = patiently(lambda: _write_temporary(directory, path, data, mode, syncs, is_exact), path)
    try:
        move_between(directory, temporary, directory, os.path.basename(path), path)
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to raise
            os.unlink(temporary, dir_fd=directory)
        raise


def move_between(source: int, name: str, target: int, new_name: str, path: str) -> None:
    """Rename in or between open directories, and replace what is there. No other process may move these names. `path` is only
    for messages. Raises OSError."""
    try:
        patiently(lambda: os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target), path)
    except FileNotFoundError:
        # A rename that failed may have happened, since NFS resends requests. Nobody else moves this name.
        if not _is_there(new_name, target):
            raise


def make_directory_in(directory: int, name: str, path: str, mode: int = 0o777) -> None:
    """Make a directory in an open one. It may exist already, also from a try that failed with a transient error. Raises
    OSError."""
    with contextlib.suppress(FileExistsError):
        patiently(lambda: os.mkdir(name, mode, dir_fd=directory), path)


@contextlib.contextmanager
def opened(open_it: Callable[[], int], path: str) -> Iterator[int]:
    """Yield a descriptor and close it at the end."""
    descriptor = patiently(open_it, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_mode(path: str, mode: int) -> None:
    """Set the mode of a file or a directory, never through a link, nor of a file that has another name too: somebody else may
    have put it there. Raises UnfitFile, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UnfitFile(errno.ELOOP, "it is a symbolic link; remove it", path) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISDIR(status.st_mode) and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1):
            raise UnfitFile(errno.EINVAL, "it is no file of its own; remove it", path)
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _write_temporary(directory: int, path: str, data: bytes, mode: int, syncs: bool, is_exact: bool) -> str:
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
            if is_exact:
                os.fchmod(descriptor, mode)
            if syncs:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to raise
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
    """Open a file that all users of a jar write to; create it if missing. Whatever this process's umask, everyone who may read
    the directory may read the file. Its group may write to it if the directory's group may.

    Raises UnfitFile if something else is there (and leaves it untouched), OSError.
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


def common_mode(directory: str) -> int:
    """Return the mode of a file that the users of `directory` share: 0o600, its group's read and write bits, others' read."""
    return 0o600 | os.stat(directory).st_mode & 0o064
