"""Find which files and directories of a jar a user may use.

Reads their status; writes nothing. A worker has to read a job's file, which says how to run it, and to run it. It also has to
list and to change the directory that it takes jobs from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection
from typing import NamedTuple

from jobjar.host import login_of

# The permissions that a worker needs for a job's file, and for a category's directory.
_READ_AND_RUN, _ALL = 0o5, 0o7


class User(NamedTuple):
    """A user with the numbers that decide permissions. `name` is the login, or the uid if this node knows no login for it."""

    name: str
    uid: int
    groups: Collection[int]


def this_user() -> User:
    """The user of this process."""
    uid = os.geteuid()
    return User(login_of(uid), uid, frozenset({os.getegid(), *os.getgroups()}))


def user_of(name: str) -> User | None:
    """Return the user with this login (or uid in digits); None if this node does not know it."""
    with contextlib.suppress(KeyError, OSError):
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        name = entry.pw_name
        return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))
    return None


def describe_user(uid: int) -> str:
    """Return a user's login for messages; `user <uid>` if it has none on this node."""
    name = login_of(uid)
    return f"user {name}" if name.isdecimal() else name


def may_run(path: str, status: os.stat_result, user: User) -> bool:
    """Whether a user may read and run a job's file.

    If the mode does not allow it to this process's own user, the kernel is asked. An access control list may give the right.
    Root may lack it: in a container, or on a server that maps root to nobody. For other users the mode decides.
    """
    return _has(status, user, _READ_AND_RUN) or _may_also(path, status, user, os.R_OK | os.X_OK)


def may_take_from(path: str, status: os.stat_result, user: User) -> bool:
    """Whether a user may list a directory and move jobs out of it. The answer is found as in `may_run`."""
    return _has(status, user, _ALL) or _may_also(path, status, user, os.R_OK | os.W_OK | os.X_OK)


def _has(status: os.stat_result, user: User, wanted: int) -> bool:
    mode = status.st_mode
    if status.st_uid == user.uid:
        return mode >> 6 & wanted == wanted
    if status.st_gid in user.groups:
        return mode >> 3 & wanted == wanted
    return mode & wanted == wanted


def _may_also(path: str, status: os.stat_result, user: User, wanted: int) -> bool:
    if user.uid == os.geteuid():
        return os.access(path, wanted)
    # Root may read and write everything, and run what anybody may run. Only its own processes can see exceptions.
    return user.uid == 0 and (stat.S_ISDIR(status.st_mode) or bool(status.st_mode & 0o111))


def may_move(status: os.stat_result, directory: os.stat_result, user: User) -> bool:
    """Whether a user who may write to a directory may move a file out of it: its sticky bit may forbid that."""
    return not directory.st_mode & stat.S_ISVTX or user.uid in (0, status.st_uid, directory.st_uid)


def may_run_here(path: str) -> bool:
    """Whether this process may read and run a file; False also for a missing file."""
    return os.access(path, os.R_OK | os.X_OK)
