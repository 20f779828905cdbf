"""Removal of directory trees that jobs wrote. Killed midway it leaves a part, which is removed when it is done again."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
import uuid


def remove_tree(path: str) -> None:
    """Remove a directory tree, also one that its job made unreadable, unwritable, or deeper than a path can be long. The
    directory above is left as it is. What cannot be removed stays for recovery."""
    with contextlib.suppress(RecursionError):  # rmtree calls itself for each level
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    with contextlib.suppress(OSError):  # what it refuses stays
        _flatten(path)
        os.rmdir(path)


def _flatten(path: str) -> None:
    """Empty a directory, however deep it is: what is not empty in a directory of it is moved up into it. So no path becomes
    long, nothing is called for each level, and two descriptors are enough."""
    top = _open(path, None)
    try:
        moved = f".{uuid.uuid4().hex[:8]}"
        numbers = itertools.count()
        waiting = _empty(top, top, moved, numbers)
        while waiting:
            name = waiting.pop()
            with contextlib.suppress(OSError):  # a mount, or what another user made: it stays
                inner = _open(name, top)
                try:
                    waiting += _empty(inner, top, moved, numbers)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _open(name: str, above: int | None) -> int:
    """Open a directory, which its owner may read and write from then on."""
    status = os.stat(name, dir_fd=above, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):  # it shows in what follows
            os.chmod(name, stat.S_IMODE(status.st_mode) | stat.S_IRWXU, dir_fd=above)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def _empty(directory: int, top: int, moved: str, numbers: itertools.count[int]) -> list[str]:
    """Remove the files of a directory; returns the names that its directories have in `top` now."""
    found = []
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):  # it stays
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            if directory == top:
                found.append(name)
                continue
            os.close(_open(name, directory))  # a directory that changes its parent has to be writable itself
            new_name = f"{moved}.{next(numbers)}"
            os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=top)
            found.append(new_name)
    return found
