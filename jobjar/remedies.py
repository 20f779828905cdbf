"""What to do about what a disk or the kernel refuses, in words for people: the end of messages that say why a job went back.

Reads the state of a disk; writes nothing.
"""

from __future__ import annotations

import errno
import os

# By errno. Where the same cause has another remedy (a limit of processes) its caller says so.
_REMEDIES = {
    errno.ENOENT: "make it, or mount the disk that it lies on",
    errno.ENOTDIR: "something on the way there is not a directory: move that away",
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within the quota, or have it raised",
    errno.EFBIG: "raise the limit of the size of files (`ulimit -f`)",
    errno.EROFS: "mount that disk writable",
    errno.EIO: "see to that disk, or to its server",
    errno.ESTALE: "see to that disk's server",
    errno.ETIMEDOUT: "see to that disk's server, or to the network",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the node's limit of open files (fs.file-max)",
}
_NO_PROCESS = {
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or have fewer workers on this node",
    errno.ENOMEM: "free memory on this node, or have fewer workers there",
    errno.E2BIG: "make the environment that the worker was started with smaller",
}
_LEAST_LEFT_BYTES = 64 * 1024


def explain_refusal(error: BaseException) -> str:
    """An error as what is refused, why, and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return where + explain_reason(error)


def explain_reason(error: OSError) -> str:
    """The same where who asks names what is refused."""
    remedy = _REMEDIES.get(error.errno or 0)
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"give the workers' user (uid {os.geteuid()}) the right to use it"
    return f"{error.strerror or error}{'; ' + remedy if remedy else ''}"


def explain_no_process(error: OSError) -> str:
    """Why no process could be started, and what to do."""
    remedy = _NO_PROCESS.get(error.errno or 0) or _REMEDIES.get(error.errno or 0)
    return f"cannot start a process: {error.strerror}{'; ' + remedy if remedy else ''}"


def explain_disk(path: str) -> str | None:
    """Why nothing can be written to the disk of `path`, and what to do; None where it can, as far as that is told without
    trying. Raises OSError."""
    state = os.statvfs(path)
    if state.f_flag & os.ST_RDONLY:
        return f"the disk of {path} is mounted read-only here; {_REMEDIES[errno.EROFS]}"
    left = state.f_bfree if os.geteuid() == 0 else state.f_bavail
    if left * state.f_frsize < _LEAST_LEFT_BYTES:
        return f"the disk of {path} is full; {_REMEDIES[errno.ENOSPC]}"
    if state.f_files and not (state.f_ffree if os.geteuid() == 0 else state.f_favail):
        return f"the disk of {path} has no room for another file (no inode is free); remove some files there"
    return None
