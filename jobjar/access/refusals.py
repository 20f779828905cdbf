"""Why the system refuses something, in words that help: whose the thing is, its mode, who asks, and what to do.

One table says of each error what it means and what mends it. Reads the state of files and disks; writes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from jobjar.access.access import describe_user, this_user
from jobjar.errors import JarError
from jobjar.host import login

_FORBIDDEN = (errno.EACCES, errno.EPERM)


class _Meaning(NamedTuple):
    """What mends an error, and, where the system's own words are none for people, what it means."""

    remedy: str
    words: str = ""


# By errno. Where the same cause has another remedy (a limit of processes) its caller says so.
_MEANINGS = {
    errno.ENOENT: _Meaning("make it, or mount the disk that it lies on"),
    errno.ENOTDIR: _Meaning("something on the way there is not a directory: move that away"),
    errno.ENOSPC: _Meaning("free space on that disk", "the disk is full"),
    errno.EDQUOT: _Meaning("free space within the quota, or have it raised", "your quota is used up"),
    errno.EFBIG: _Meaning("raise the limit of the size of files (`ulimit -f`)"),
    errno.EROFS: _Meaning("mount that disk writable", "the disk is read-only"),
    errno.EIO: _Meaning("see to that disk, or to its server"),
    errno.ESTALE: _Meaning("see to that disk's server"),
    errno.ETIMEDOUT: _Meaning("see to that disk's server, or to the network"),
    errno.EMFILE: _Meaning("raise the limit of open files (`ulimit -n`)"),
    errno.ENFILE: _Meaning("raise the node's limit of open files (fs.file-max)"),
}
_NO_PROCESS = {
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or have fewer workers on this node",
    errno.ENOMEM: "free memory on this node, or have fewer workers there",
    errno.E2BIG: "make the environment that the worker was started with smaller",
}
_NO_MEANING = _Meaning("")
_LEAST_LEFT_BYTES = 64 * 1024


def explain_at(error: OSError, path: str, needs: int = os.W_OK) -> str:
    """What an error means that came when something was done at `path`. `needs` is what was wanted of its directory."""
    if error.errno in _FORBIDDEN:
        return explain_forbidden(path, needs)
    meaning = _meaning_of(error)
    if meaning.words:
        return f"{meaning.words}; {meaning.remedy}"
    return error.strerror or str(error)


def explain_forbidden(path: str, needs: int = os.W_OK) -> str:
    """Why this user may not write at `path` (or, as `needs` says, read there), and whom to ask."""
    where = _find_barrier(path, needs)
    try:
        status = os.stat(where)
    except OSError:
        return f"{login()} has no permission for {where}"
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    may = "read it" if needs == os.R_OK else "write to it"
    if os.access(where, needs) and (needs == os.R_OK or os.access(where, os.X_OK)):
        # Only its owner may do some things, such as changing a mode.
        may = "change it"
    elif status.st_uid == os.geteuid():
        return (
            f"{where} is yours, but its {mode} does not let you {may} (chmod u+rwx {where}), or the disk is read-only"
        )
    owner = describe_user(status.st_uid)
    return f"{where} belongs to {owner} ({mode}), and user {login()} may not {may}; ask {owner}, or name a directory of your own"


def _find_barrier(path: str, needs: int) -> str:
    """The directory on the way to `path`, or what is there, that lets this user go no further."""
    path = os.path.abspath(path)
    ancestors = [path]
    while ancestors[-1] != os.path.dirname(ancestors[-1]):
        ancestors.append(os.path.dirname(ancestors[-1]))
    there = "/"
    for ancestor in reversed(ancestors):
        if not os.path.lexists(ancestor):
            break  # to be made in what is there
        there = ancestor
        if os.path.isdir(ancestor) and not os.access(ancestor, os.X_OK):
            break
    return there


def explain_error(error: BaseException) -> str:
    """An error as what is refused, why, and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return where + explain_reason(error)


def explain_reason(error: OSError) -> str:
    """The same where the caller names what is refused."""
    remedy = _meaning_of(error).remedy
    if error.errno in _FORBIDDEN:
        remedy = f"give the workers' user (uid {os.geteuid()}) the right to use it"
    return f"{error.strerror or error}{'; ' + remedy if remedy else ''}"


def explain_no_process(error: OSError) -> str:
    """Why no process could be started, and what to do."""
    remedy = _NO_PROCESS.get(error.errno or 0) or _meaning_of(error).remedy
    return f"cannot start a process: {error.strerror}{'; ' + remedy if remedy else ''}"


def _meaning_of(error: OSError) -> _Meaning:
    return _MEANINGS.get(error.errno or 0, _NO_MEANING)


def explain_disk(path: str) -> str | None:
    """Why nothing can be written to the disk of `path`, and what to do; None where it can, as far as that is told without
    trying. Raises OSError."""
    state = os.statvfs(path)
    if state.f_flag & os.ST_RDONLY:
        return f"the disk of {path} is mounted read-only here; {_MEANINGS[errno.EROFS].remedy}"
    left = state.f_bfree if os.geteuid() == 0 else state.f_bavail
    if left * state.f_frsize < _LEAST_LEFT_BYTES:
        return f"the disk of {path} is full; {_MEANINGS[errno.ENOSPC].remedy}"
    if state.f_files and not (state.f_ffree if os.geteuid() == 0 else state.f_favail):
        return f"the disk of {path} has no room for another file (no inode is free); remove some files there"
    return None


def explain_file(status: os.stat_result, user: str) -> str:
    """Why a user cannot run a job, and what to do."""
    return f"{user} may not read and run it: it {_belongs(status)} (`chmod a+rx`, or `g+rx` in a jar of a group)"


def explain_directory(status: os.stat_result, user: str) -> str:
    """Why a user cannot take jobs from a directory, and what to do."""
    return (
        f"{user} may not take jobs from its directory: that {_belongs(status)} (`chmod g+rwxs` in a jar of a group, else it "
        "wants workers of that user)"
    )


def explain_sticky(status: os.stat_result, user: str) -> str:
    """Why a user cannot move a job out of its directory, and what to do."""
    owner = describe_user(status.st_uid)
    return f"{user} may not move it: it belongs to {owner}, and its directory has the sticky bit (`chmod -t` on that)"


def explain_unlisted(place: str, status: os.stat_result) -> str:
    """Why this user was told nothing of what is in a directory."""
    return f"{place}/ was not looked into: {login()} may not list it, it {_belongs(status)}"


def _belongs(status: os.stat_result) -> str:
    return f"belongs to {describe_user(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"


class Refusals:
    """What a worker was refused, by its place or its kind: each is said once, until it is allowed."""

    def __init__(self) -> None:
        self.user = this_user()
        self._said: set[str] = set()

    def __contains__(self, what: str) -> bool:
        return what in self._said

    def __bool__(self) -> bool:
        return bool(self._said)

    def tell(self, place: str, reason: str, log: Callable[[str], None]) -> None:
        """Say that a place is passed over, unless that was said already."""
        if place not in self._said:
            self._said.add(place)
            log(f"{place} is passed over: {reason}")

    def tell_error(self, error: Exception, log: Callable[[str], None]) -> None:
        """Say an error, unless one of its kind was said already."""
        # Not by the whole text: the next job is refused for the same reason.
        named = error.fields.get("reason") if isinstance(error, JarError) else None
        kind = f"errno {error.errno}" if isinstance(error, OSError) else f"{type(error).__name__} {named}"
        if kind not in self._said:
            self._said.add(kind)
            where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            log(f"{where}{error.strerror}; waiting" if isinstance(error, OSError) else str(error))

    def end(self, what: str) -> None:
        self._said.discard(what)

    def end_all(self, log: Callable[[str], None]) -> None:
        """It goes on."""
        if self._said:
            self._said.clear()
            log("going on")
