"""Removal of directory trees that jobs wrote. Killed midway it leaves a part, which is removed when it is done again."""

from __future__ import annotations

import contextlib
import os
import shutil


def remove_tree(path: str) -> None:
    """Remove a directory tree, also one that its job made read-only. What cannot be removed stays for recovery."""

    def open_up(function: object, inner: str, error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(inner), 0o700)
            if not os.path.islink(inner) and os.path.isdir(inner):
                os.chmod(inner, 0o700)
                shutil.rmtree(inner, ignore_errors=True)
            else:
                os.unlink(inner)

    if os.path.lexists(path):
        shutil.rmtree(path, onerror=open_up)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
