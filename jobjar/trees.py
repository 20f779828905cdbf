"""Removal of directory trees that jobs wrote. Killed midway it leaves a part, which is removed when it is done again."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat


def remove_tree(path: str) -> None:
    """Remove a directory tree, also one that its job made unreadable or unwritable. The directory above is left as it is.
    What cannot be removed stays for recovery."""
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    _open_up(path)
    for directory, names, _ in os.walk(path):
        for name in names:  # walk looks into them after this
            _open_up(f"{directory}/{name}")
    shutil.rmtree(path, ignore_errors=True)


def _open_up(directory: str) -> None:
    with contextlib.suppress(OSError):  # then it stays
        if not os.path.islink(directory):
            os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | stat.S_IRWXU)
