"""The umask. While a process works in a jar, it has the jar's umask. Jobs, and results that leave the jar, get the user's:
JJ_UMASK if it is set, otherwise the one that the process was started with.

The module only changes modes of files that other code has made.
"""

from __future__ import annotations

import contextlib
import os
import stat

# The umask that this process has now, and its user's; None before `take_umask`.
_jars: int | None = None
_users: int | None = None


def take_umask(umask: int, said: int | None) -> None:
    """Set this process's umask. `said` is the umask that the user set for jobs, or None."""
    global _jars, _users
    before = os.umask(umask)
    if _jars is None or said is not None:
        _users = before if said is None else said
    _jars = umask


def users_umask() -> int | None:
    """Return the umask for jobs; None if it is the one that this process has."""
    return None if _users == _jars else _users


def return_umask() -> None:
    """Set the user's umask again, for the program that replaces this process (execv)."""
    if _users is not None:
        os.umask(_users)


def widen_mode(descriptor: int, mode: int) -> None:
    """Add to an open file or directory the permissions that the user's umask leaves of `mode`."""
    if _users == _jars or _users is None:
        return
    has = stat.S_IMODE(os.fstat(descriptor).st_mode)
    wanted = has | mode & 0o777 & ~_users
    if wanted != has:
        with contextlib.suppress(OSError):  # a disk without modes
            os.fchmod(descriptor, wanted)
