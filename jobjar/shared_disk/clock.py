"""The disk's clock: the times that it gives to files, and what it shows now. Nodes' own clocks differ.

Touches the file by which the clock is read, and makes it if it is missing. A kill while something else is in its place leaves
a temporary file, which leftovers.py removes.
"""

from __future__ import annotations

import os

from jobjar.shared_disk.creating import create_file, open_shared, temporary_path
from jobjar.shared_disk.files import read_status
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over


def disk_time(status: os.stat_result) -> float:
    """Return when the file was last moved, by its disk's clock (UTC epoch seconds, to the microsecond)."""
    return round(status.st_ctime, 6)


def moved_time(path: str, otherwise: float) -> float:
    """The disk time of a file that was just moved to `path`; `otherwise` if that cannot be read: another process has moved the
    file on already, or the disk is away."""
    try:
        return disk_time(read_status(path))
    except OSError:
        return otherwise


def read_disk_clock(path: str) -> float:
    """Read the disk's clock (UTC epoch seconds) by touching the file at `path`, which is created if missing. Raises OSError."""
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
