"""What holds a name for a move, where a file system has no rename that refuses to overwrite: a symbolic link.

Making one is as exclusive as O_EXCL and is one operation. It leads nowhere; its target says who made it, so that after
trouble its maker knows it again, and recovery may remove what a killed maker left. It is no job to anybody (a job is a file).
"""

from __future__ import annotations

import errno
import functools
import itertools
import os

from jobjar.liveness import DEAD, UNKNOWN, ProcessIdentity, gone_nodes, liveness, this_process

_FIRST, _SEPARATOR = ".moving", ":"
_numbers = itertools.count(1)


def new_placeholder() -> str:
    """The target of a placeholder that nobody else makes."""
    return _SEPARATOR.join((_prefix(os.getpid()), str(next(_numbers))))


@functools.cache
def _prefix(pid: int) -> str:
    """What names process `pid`, which is this one: a forked one names itself anew."""
    process = this_process()
    said = (process.node, str(process.pid), repr(process.started), process.boot_id, process.pid_namespace)
    return _SEPARATOR.join((_FIRST, *said))


def read_placeholder(path: str) -> str | None:
    """The target of the placeholder at `path`; None where there is none. Raises OSError where the disk does not tell."""
    try:
        target = os.readlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return None
    return target if target.startswith(_FIRST + _SEPARATOR) else None


def is_own(placeholder: str) -> bool:
    """Whether this process made it."""
    return placeholder.rpartition(_SEPARATOR)[0] == _prefix(os.getpid())


def is_abandoned(placeholder: str) -> bool:
    """Whether its maker is known to be dead."""
    parts = placeholder.split(_SEPARATOR)
    try:
        # An earlier release did not tell the PID namespace.
        namespace = parts[5] if len(parts) > 6 else ""
        maker = ProcessIdentity(parts[1], int(parts[2]), float(parts[3]), parts[4], namespace)
    except (IndexError, ValueError):
        return False  # of another version
    state = liveness(maker)
    return state == DEAD or (state == UNKNOWN and maker.node in gone_nodes)
