"""Explain why the system refuses something: who owns the file, its mode, who asks, and what to do.

One table has the meaning and the remedy of each error. Reads the state of files and disks; writes nothing.
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
    """The remedy for an error, and words for its meaning if the system's own words do not help people."""

    remedy: str
    words: str = ""


# By errno. A caller whose errors have another remedy has its own table (`_NO_PROCESS`).
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
    """Explain an error of an action at `path`. `needs` is the permission that the action needs there (os.R_OK or os.W_OK)."""
    if error.errno in _FORBIDDEN:
        return explain_forbidden(path, needs)
    meaning = _meaning_of(error)
    if meaning.words:
        return f"{meaning.words}; {meaning.remedy}"
    return error.strerror or str(error)


def name_refusal(error: OSError) -> str:
    """Say what was refused, where, and whom to ask: `<path>: <reason>`."""
    if not isinstance(error.filename, str | bytes):
        return error.strerror or str(error)
    path = os.fsdecode(error.filename)
    can_read = os.access(path, os.R_OK) or not os.path.lexists(path)
    reason = explain_at(error, path, os.W_OK if can_read else os.R_OK)
    return f"{path}: {reason}"


def explain_forbidden(path: str, needs: int = os.W_OK) -> str:
    """Explain why this user may not write at `path` (or read there, if `needs` is os.R_OK), and whom to ask."""
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
    """Find the directory on the way to `path`, or the existing end of it, where this user can go no further."""
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
    """Explain an error: what is refused, why, and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    # A call that was given a descriptor puts that there, which nobody else can read.
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return where + explain_reason(error)


def explain_reason(error: OSError) -> str:
    """`explain_error` without the path, for callers that name what is refused."""
    remedy = _meaning_of(error).remedy
    if error.errno in _FORBIDDEN:
        remedy = f"give the workers' user (uid {os.geteuid()}) the right to use it"
    return f"{error.strerror or error}{'; ' + remedy if remedy else ''}"


def explain_no_process(error: OSError) -> str:
    """Explain why no process could be started, and what to do."""
    remedy = _NO_PROCESS.get(error.errno or 0) or _meaning_of(error).remedy
    return f"cannot start a process: {error.strerror}{'; ' + remedy if remedy else ''}"


def _meaning_of(error: OSError) -> _Meaning:
    return _MEANINGS.get(error.errno or 0, _NO_MEANING)


def explain_disk(path: str) -> str | None:
    """Explain why nothing can be written to the disk of `path`, and what to do; None if nothing speaks against a write. It
    does not try one. Raises OSError."""
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
    """Explain why a user cannot run a job, and what to do."""
    return f"{user} may not read and run it: it {_belongs(status)}; `chmod a+rx` it, or `g+rx` in a jar of a group"


def explain_directory(status: os.stat_result, user: str, path: str = "its directory") -> str:
    """Explain why a user cannot take jobs from a directory, and what to do."""
    return (
        f"{user} may not take jobs from {path}: that {_belongs(status)}; `chmod g+rwxs` it in a jar of a group, "
        "else start workers of that user"
    )


def explain_sticky(status: os.stat_result, user: str) -> str:
    """Explain why a user cannot move a job out of its directory, and what to do."""
    owner = describe_user(status.st_uid)
    return f"{user} may not move it: it belongs to {owner}, and its directory has the sticky bit; `chmod -t` that directory"


def explain_attribute(letter: str, path: str) -> str:
    """Explain that nobody can move a file, or the files of a directory, because of its attribute (chattr(1)); and what to do."""
    return f"nobody may move it: {path} has the attribute {letter}; `chattr -{letter}` that, as root"


def explain_unlisted(place: str, status: os.stat_result) -> str:
    """Explain why a report leaves out the content of a directory."""
    return f"{place}/ was not looked into: {login()} may not list it, it {_belongs(status)}"


def _belongs(status: os.stat_result) -> str:
    return f"belongs to {describe_user(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"


class Refusals:
    """The refusals that a worker has logged, by place or kind. Each is logged once until it ends."""

    def __init__(self) -> None:
        self.user = this_user()
        self._said: set[str] = set()

    def __contains__(self, what: str) -> bool:
        return what in self._said

    def __bool__(self) -> bool:
        return bool(self._said)

    def log_once(self, place: str, reason: str, log: Callable[[str], None]) -> None:
        """Log that a place is passed over, unless that was logged already."""
        if place not in self._said:
            self._said.add(place)
            log(f"{place} is passed over: {reason}")

    def log_error_once(self, error: Exception, log: Callable[[str], None]) -> None:
        """Log an error, unless one of its kind was logged already."""
        # The kind leaves out the job's name: the next job is refused for the same reason.
        named = error.fields.get("reason") if isinstance(error, JarError) else None
        kind = f"errno {error.errno}" if isinstance(error, OSError) else f"{type(error).__name__} {named}"
        if kind not in self._said:
            self._said.add(kind)
            log(f"{name_refusal(error)}; waiting" if isinstance(error, OSError) else str(error))

    def end(self, what: str) -> None:
        self._said.discard(what)

    def end_all(self, log: Callable[[str], None]) -> None:
        """Log that the worker goes on, if it had logged a refusal; forget all refusals."""
        if self._said:
            self._said.clear()
            log("going on")


def explain_unfit(error: ImportError) -> str:
    """Say what an import that fails means, and what to do."""
    what_to_do = "it is being upgraded, or was by half: install it again whole, then try again"
    return f"a part of this software does not fit the others ({error}); {what_to_do}"


def name_place(path: str, reason: str) -> str:
    """Put a path before a reason that does not begin with one."""
    return reason if reason.startswith("/") else f"{path}: {reason}"
