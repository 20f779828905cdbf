"""Copies of files, with size and md5 of what went through, and the temporary names that they are written under.

A temporary file has a name of its own form in the directory of the file that it is to become: which process of which node
writes it. Killed midway a copy leaves that file, and nothing under the name itself; `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable

from jobjar.host import node_name
from jobjar.liveness import MARK, mark
from jobjar.shared_disk.files import write_all
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.patience import patiently

BetweenPieces = Callable[[], object]
# How often it is looked whether what somebody waits for is still wanted.
LOOKS_S = 0.2
_CHUNK_BYTES = 1 << 20
# No copy waits for so long; whose process is on another node is known by nothing else.
_FORGOTTEN_S = 86400.0
_TEMPORARY = re.compile(rf"\.jobjar\.(.+)\.{MARK}\.[0-9]+\.new")
_counter = itertools.count(1)


def nothing() -> None:
    """What to do between two pieces of a file where nobody says."""


def temporary_name() -> str:
    """A name for a half copy that no other call on any node returns; of a bounded length, whatever the file is called."""
    return f".jobjar.{node_name()[:64]}.{mark()}.{next(_counter)}.new"


def is_temporary_name(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def sweep(directory: str) -> list[str]:
    """Remove what killed processes of this node left half copied in a directory, and what other nodes' left there a day ago,
    by the disk's clock. Returns the names. Raises OSError."""
    removed = remove_leftovers(directory, rf"\.jobjar\.{re.escape(node_name()[:64])}\.{MARK}\.[0-9]+\.new")
    found = [name for name in os.listdir(directory) if is_temporary_name(name)]
    if found:
        now = os.stat(
            directory
        ).st_mtime  # of its last change: earlier than now, so nothing is taken for older than it is
        for name in found:
            with contextlib.suppress(FileNotFoundError):
                if now - os.lstat(f"{directory}/{name}").st_mtime > _FORGOTTEN_S:
                    os.unlink(f"{directory}/{name}")
                    removed.append(name)
    return removed


def open_file(path: str, directory: int | None = None) -> int:
    """Open a regular file to read it: no link is followed, nothing is waited for. Raises OSError; of what is no regular file
    with ELOOP (a link) or EINVAL."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = patiently(lambda: os.open(path, flags, dir_fd=directory), path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def measure(descriptor: int, between_pieces: BetweenPieces = nothing) -> tuple[int, str]:
    """Size and md5 of an open file, from where it stands. `between_pieces` is called between pieces. Raises OSError."""
    return copy(descriptor, None, between_pieces)


def measure_stored(descriptor: int, between_pieces: BetweenPieces = nothing) -> tuple[int, str]:
    """`measure` of a file that was just written and synced, from its beginning: read from the disk, where the kernel can be
    told to forget what it has of it in memory."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # it is advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return measure(descriptor, between_pieces)


def copy(
    source: int, target: int | None, between_pieces: BetweenPieces = nothing, most_bytes: int | None = None
) -> tuple[int, str]:
    """Copy an open file to another, from where they stand; returns size and md5 of what was read. Of a file that turns out to
    be longer than `most_bytes` only a little more is read. Raises OSError."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    while (most_bytes is None or size <= most_bytes) and (piece := os.read(source, _CHUNK_BYTES)):
        digest.update(piece)
        size += len(piece)
        if target is not None:
            write_all(target, piece)
        between_pieces()
    return size, digest.hexdigest()
