"""Which files and directories of a jar a user may use.

Reads their status; writes nothing. A worker has to read a job, which says how it is to be run, and to run it; and to list and
to change the directory that it takes jobs from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection
from typing import NamedTuple

# What a worker needs of a job's file, and of a category's directory.
_READ_AND_RUN, _ALL = 0o5, 0o7


class User(NamedTuple):
    """Somebody, by the numbers that permissions go by. A login that is a number is one that no node could name."""

    name: str
    uid: int
    groups: Collection[int]


def this_user() -> User:
    """The user of this process."""
    uid = os.geteuid()
    return User(name_of(uid), uid, frozenset({os.getegid(), *os.getgroups()}))


def user_of(name: str) -> User | None:
    """A user by login, as this node knows it; None where it does not."""
    with contextlib.suppress(KeyError, OSError):
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        name = entry.pw_name
        return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))
    return None


def name_of(uid: int) -> str:
    """A user's login; the number where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def describe_user(uid: int) -> str:
    """The same for people."""
    name = name_of(uid)
    return f"user {name}" if name.isdecimal() else name


def may_run(path: str, status: os.stat_result, user: User) -> bool:
    """Whether a user may read and run a job's file. Of this process's own user the kernel is asked, where the mode does not say
    yes: root may lack the right (in a container, on a server that takes root for nobody), and an access control list may give
    it. Of another user the mode tells."""
    return _has(status, user, _READ_AND_RUN) or _may_also(path, status, user, os.R_OK | os.X_OK)


def may_take_from(path: str, status: os.stat_result, user: User) -> bool:
    """The same of a directory, for listing it and for moving jobs out of it."""
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
    # Root reads and writes what it likes, and runs what anybody may; where it does not, only its own processes can tell.
    return user.uid == 0 and (stat.S_ISDIR(status.st_mode) or bool(status.st_mode & 0o111))


def may_move(status: os.stat_result, directory: os.stat_result, user: User) -> bool:
    """Whether the sticky bit of a directory that a user may write to lets the user move a file out of it."""
    return not directory.st_mode & stat.S_ISVTX or user.uid in (0, status.st_uid, directory.st_uid)


def may_run_here(path: str) -> bool:
    """Whether this process may read and run a file; False also where there is none."""
    return os.access(path, os.R_OK | os.X_OK)
