"""Which files and directories of a jar a user may not use, whose they are, and what to do about it.

Reads their status; writes nothing. A worker has to read a job, which says how it is to be run, and to run it; and to list and
to change the directory that it takes jobs from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Callable, Collection
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


def may_run(status: os.stat_result, user: User) -> bool:
    """Whether the mode of a job's file lets a user read and run it. Access control lists may say otherwise."""
    return _has(status, user, _READ_AND_RUN)


def may_take_from(status: os.stat_result, user: User) -> bool:
    """Whether the mode of a directory lets a user list it and move jobs out of it."""
    return _has(status, user, _ALL)


def _has(status: os.stat_result, user: User, wanted: int) -> bool:
    mode = status.st_mode
    if user.uid == 0:
        # Root reads and writes what it likes, and runs what anybody may.
        return stat.S_ISDIR(mode) or bool(mode & 0o111)
    if status.st_uid == user.uid:
        return mode >> 6 & wanted == wanted
    if status.st_gid in user.groups:
        return mode >> 3 & wanted == wanted
    return mode & wanted == wanted


def may_run_here(path: str) -> bool:
    """Whether this process may read and run a file; False also where there is none."""
    return os.access(path, os.R_OK | os.X_OK)


def explain_file(status: os.stat_result, user: str) -> str:
    """Why a user cannot run a job, and what to do."""
    return (
        f"{user} may not read and run it: it belongs to {name_of(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
        " (`chmod a+rx`, or `g+rx` in a jar of a group)"
    )


def explain_directory(status: os.stat_result, user: str) -> str:
    """Why a user cannot take jobs from a directory, and what to do."""
    return (
        f"{user} may not take jobs from its directory: that belongs to {name_of(status.st_uid)}, mode "
        f"{stat.S_IMODE(status.st_mode):04o} (`chmod g+rwxs` in a jar of a group, else it wants workers of that user)"
    )


class Refusals:
    """What a claimer was not allowed to take, by place; each is said once, until it is allowed."""

    def __init__(self) -> None:
        self.user = this_user()
        self._said: set[str] = set()

    def __contains__(self, place: str) -> bool:
        return place in self._said

    def __bool__(self) -> bool:
        return bool(self._said)

    def tell(self, place: str, reason: str, say: Callable[[str], None]) -> None:
        if place not in self._said:
            self._said.add(place)
            say(f"{place} is passed over: {reason}")

    def end(self, place: str) -> None:
        self._said.discard(place)
