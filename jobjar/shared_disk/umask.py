"""The umask: a process has its jar's while it works in a jar; jobs, and results that leave the jar, get that with which the
process was started, or JJ_UMASK where that is said.

Writes nothing but modes of files that others have made.
"""

from __future__ import annotations

import contextlib
import os
import stat

# What this process has now, and what is its user's; None before `take_umask`.
_jars: int | None = None
_users: int | None = None


def take_umask(umask: int, said: int | None) -> None:
    """Have `umask` from now on; `said` is what the user said that jobs are to have, or None."""
    global _jars, _users
    before = os.umask(umask)
    if _jars is None or said is not None:
        _users = before if said is None else said
    _jars = umask


def users_umask() -> int | None:
    """What jobs are to have; None where that is what this process has."""
    return None if _users == _jars else _users


def return_umask() -> None:
    """Have the umask again with which this process was started: for the program that takes its place (execv)."""
    if _users is not None:
        os.umask(_users)


def widen_mode(descriptor: int, mode: int) -> None:
    """Give an open file or directory that was made with `mode` what the user's umask leaves of that, beside what it has."""
    if _users == _jars or _users is None:
        return
    has = stat.S_IMODE(os.fstat(descriptor).st_mode)
    wanted = has | mode & 0o777 & ~_users
    if wanted != has:
        with contextlib.suppress(OSError):  # a disk without modes
            os.fchmod(descriptor, wanted)
