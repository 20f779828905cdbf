"""The symbolic link that reserves a name for a move, on file systems without a rename that refuses to overwrite.

Making a link is one operation and as exclusive as O_EXCL. The link leads nowhere. Its target names its maker: the maker
recognizes it after trouble, and recovery removes it if the maker was killed. Nobody takes it for a job, which is a file.
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
    """Return a unique target for a placeholder."""
    return _SEPARATOR.join((_prefix(os.getpid()), str(next(_numbers))))


@functools.cache
def _prefix(pid: int) -> str:
    """Return the part of a target that names this process. `pid` is its id: with that, a forked process gets its own answer."""
    process = this_process()
    said = (process.node, str(process.pid), repr(process.started), process.boot_id, process.pid_namespace)
    return _SEPARATOR.join((_FIRST, *said))


def read_placeholder(path: str) -> str | None:
    """Return the target of the placeholder at `path`; None if there is none. Raises OSError if the disk gives no answer."""
    try:
        target = os.readlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return None
    return target if target.startswith(_FIRST + _SEPARATOR) else None


def is_own(placeholder: str) -> bool:
    """Whether this process made the placeholder."""
    return placeholder.rpartition(_SEPARATOR)[0] == _prefix(os.getpid())


def is_abandoned(placeholder: str) -> bool:
    """Whether the maker of the placeholder is known to be dead."""
    parts = placeholder.split(_SEPARATOR)
    try:
        # Placeholders of an earlier release have no PID namespace.
        namespace = parts[5] if len(parts) > 6 else ""
        maker = ProcessIdentity(parts[1], int(parts[2]), float(parts[3]), parts[4], namespace)
    except (IndexError, ValueError):
        return False  # another version made it
    state = liveness(maker)
    return state == DEAD or (state == UNKNOWN and maker.node in gone_nodes)
