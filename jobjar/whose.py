"""Why the system refuses something, in words that help: whose the thing is, its mode, who asks, and what to do.

Reads; writes nothing.
"""

from __future__ import annotations

import errno
import os
import stat

from jobjar.jobname import login

_FORBIDDEN = (errno.EACCES, errno.EPERM)
_REASONS = {
    errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
}


def explain(error: OSError, path: str, needs: int = os.W_OK) -> str:
    """What an error means that came when something was done at `path`. `needs` is what was wanted of its directory."""
    if error.errno in _FORBIDDEN:
        return explain_refusal(path, needs)
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def explain_refusal(path: str, needs: int = os.W_OK) -> str:
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
    owner = login_of(status.st_uid)
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


def login_of(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
