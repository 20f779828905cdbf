"""Read files of a jar safely: somebody may have put a link, a pipe or an endless file there.

A file is opened without following a link and without waiting. It must be a regular file of bounded size; contents.py checks
its content. A file that is not read is logged once (`pass_over`), and the caller goes on without it. This module writes
nothing; creating.py does, and owners.py says whose files it may write to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from jobjar.shared_disk.patience import patience, patiently

# Larger than any file that Job Jar writes and reads whole. Journals are read in pieces.
MOST_BYTES = 64 << 20
_AS_IT_LIES = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# Files that were logged already, by path and reason. The set is bounded, since a process may run for months.
_named: set[tuple[str, str]] = set()
_MOST_NAMED = 1000


class UnfitFile(OSError):
    """Something is at a path that does not belong there. `errno` is ELOOP (a link), EISDIR, EINVAL, EFBIG, EPERM or EEXIST."""


def pass_over(path: str, reason: object) -> None:
    """Log that a file is not read. Each process logs it once, since it meets the same file again and again."""
    if (path, str(reason)) not in _named:
        if len(_named) >= _MOST_NAMED:
            _named.clear()
        _named.add((path, str(reason)))
        patience.log(f"{path}: {reason}; passed over")


@contextlib.contextmanager
def passing_over(path: str) -> Iterator[None]:
    """Catch UnfitFile: log once that the file at `path` is passed over, and go on after the block."""
    try:
        yield
    except UnfitFile as error:
        pass_over(path, error.strerror)


def open_regular(path: str, flags: int = os.O_RDONLY, dir_fd: int | None = None) -> int:
    """Open an existing regular file. It follows no link and waits for no pipe.

    `flags` must not create or truncate. Raises UnfitFile if something else is there, FileNotFoundError, OSError.
    """
    try:
        descriptor = os.open(path, flags | _AS_IT_LIES, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
            raise
        number = errno.EINVAL if error.errno in (errno.ENXIO, errno.ENODEV) else error.errno
        raise UnfitFile(number, _describe(path, dir_fd), path) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise UnfitFile(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, _name_kind(mode), path)


def _describe(path: str, dir_fd: int | None) -> str:
    try:
        return _name_kind(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except OSError:
        return "it is not a file"


def _name_kind(mode: int) -> str:
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
    return (
        f"it is {kind}, where a file belongs; remove it" if not stat.S_ISREG(mode) else "its path has a loop of links"
    )


def open_below(top: str, *names: str) -> int:
    """Open the regular file at `top`/`names`… without following a link below `top`. Raises UnfitFile if a name is invalid or
    leads away from there, FileNotFoundError, OSError."""
    shown = "/".join((top, *names))
    if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
        raise UnfitFile(errno.EINVAL, "its name leads away from where it belongs", shown)
    directory = open_directory_below(top, *names[:-1])
    try:
        return open_regular(names[-1], dir_fd=directory)
    finally:
        os.close(directory)


def open_directory_below(
    top: str, *names: str, follow: bool = False, make: Callable[[int, str, str], None] | None = None
) -> int:
    """Open the directory at `top`/`names`… without following a link below `top`, unless `follow`. `make` makes one that is
    missing, by the descriptor of the directory that it belongs in, its name, and its path. Raises UnfitFile if a name is no
    directory, FileNotFoundError, OSError."""
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, name in enumerate(names, 1):
        path = "/".join((top, *names[:number]))
        try:
            if make is not None:
                make(directory, name, path)
            inner = open_directory_in(directory, name, path, follow)
        finally:
            os.close(directory)
        directory = inner
    return directory


def open_directory_in(directory: int, name: str, path: str, follow: bool = False) -> int:
    """Open the directory of this name in an open directory. Raises what `open_directory_below` raises."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        reason = f"{name} is not a directory" + ("" if follow else ", or leads elsewhere")
        raise UnfitFile(errno.ELOOP, reason, path) from error


def read_regular(path: str, deadline_s: float | None = None, size: int = -1) -> bytes:
    """Read a small regular file, or its first `size` bytes. Raises UnfitFile, OSError."""

    def read() -> bytes:
        descriptor = open_regular(path)
        try:
            return read_bounded(descriptor, path, size)
        finally:
            os.close(descriptor)

    return patiently(read, path, deadline_s)


def read_bounded(descriptor: int, path: str, size: int = -1) -> bytes:
    """Read the rest of an open file, or its next `size` bytes. Raises UnfitFile if the rest exceeds MOST_BYTES, OSError."""
    wanted = MOST_BYTES + 1 if size < 0 else size
    data = os.read(descriptor, min(wanted, _CHUNK_BYTES))
    if not data or len(data) == wanted:
        return data
    parts, found = [data], len(data)
    while found < wanted and (data := os.read(descriptor, min(wanted - found, _CHUNK_BYTES))):
        parts.append(data)
        found += len(data)
    if size < 0 and found > MOST_BYTES:
        raise UnfitFile(errno.EFBIG, f"it is longer than {MOST_BYTES >> 20} MiB", path)
    return b"".join(parts)


def read_given(path: str) -> bytes:
    """Read a file that a person named, which may be a link or a pipe. Raises UnfitFile if it is too long, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_bounded(descriptor, path)
    finally:
        os.close(descriptor)
