"""Copy files, with size and md5 of the copied bytes, under temporary names.

A temporary file lies in the directory of the file that it is to become. Its name says which process of which node writes it. A
copy that is killed midway leaves that file, and nothing under the final name; `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable

from jobjar.liveness import MARK
from jobjar.shared_disk.creating import temporary_of_nodes, temporary_path_of_node
from jobjar.shared_disk.files import write_all
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.patience import patiently

BetweenPieces = Callable[[], object]
# The pause between two checks whether a wait is still wanted.
LOOKS_S = 0.2
_CHUNK_BYTES = 1 << 20
# No copy takes that long. Its age is the only sign that a process of another node has left a copy.
_FORGOTTEN_S = 86400.0
_BEGINNING = ".jobjar"
_TEMPORARY = re.compile(rf"\.jobjar\.(.+)\.{MARK}\.[0-9a-f]+\.new")


def nothing() -> None:
    """The default for `between_pieces`."""


def temporary_name() -> str:
    """A name for a half copy, which no other call on any node returns. It is short, whatever the file's name is."""
    return temporary_path_of_node(_BEGINNING)


def is_temporary_name(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def sweep(directory: str) -> list[str]:
    """Remove half copies from a directory: those of this node's dead processes, and those of other nodes that are a day old by
    the disk's clock. Returns their names. Raises OSError."""
    removed = remove_leftovers(directory, re.escape(_BEGINNING) + temporary_of_nodes())
    found = [name for name in os.listdir(directory) if is_temporary_name(name)]
    if found:
        # The directory's last change is earlier than now, so no file is taken for older than it is.
        now = os.stat(directory).st_mtime
        for name in found:
            with contextlib.suppress(FileNotFoundError):
                if now - os.lstat(f"{directory}/{name}").st_mtime > _FORGOTTEN_S:
                    os.unlink(f"{directory}/{name}")
                    removed.append(name)
    return removed


def open_file(path: str, directory: int | None = None) -> int:
    """Open a regular file to read it, without following a link and without waiting for a pipe. Raises OSError: ELOOP for a
    link, EINVAL for anything else that is no regular file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = patiently(lambda: os.open(path, flags, dir_fd=directory), path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def measure(descriptor: int, between_pieces: BetweenPieces = nothing) -> tuple[int, str]:
    """Size and md5 of an open file, from its current offset. `between_pieces` is called between pieces. Raises OSError."""
    return copy(descriptor, None, between_pieces)


def measure_stored(descriptor: int, between_pieces: BetweenPieces = nothing) -> tuple[int, str]:
    """`measure` a file that was just written and synced, from its beginning. It is read from the disk itself, where the kernel
    drops its cached pages on request."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # only advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return measure(descriptor, between_pieces)


def copy(
    source: int, target: int | None, between_pieces: BetweenPieces = nothing, most_bytes: int | None = None
) -> tuple[int, str]:
    """Copy an open file to another, from their current offsets. Returns size and md5 of the bytes that were read. Reading stops
    soon after `most_bytes`. Raises OSError."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    while (most_bytes is None or size <= most_bytes) and (piece := os.read(source, _CHUNK_BYTES)):
        digest.update(piece)
        size += len(piece)
        if target is not None:
            write_all(target, piece)
        between_pieces()
    return size, digest.hexdigest()
