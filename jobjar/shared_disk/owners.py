"""Whose files and directories are trusted, where other people write too: a group's jar, /var/tmp.

A file is written to if it is a regular file with one name that belongs to this user, to root, or to the user or group of its
directory. A directory is trusted if no other user can change or replace it. Writes nothing.
"""

from __future__ import annotations

import errno
import os
import stat

from jobjar.shared_disk.regular import UnfitFile, open_regular


def open_own(path: str, flags: int) -> int:
    """Open an existing regular file for writing. Raises FileNotFoundError, and what `open_shared` raises."""
    descriptor = open_regular(path, flags)
    try:
        reason = _why_not_ours(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    if reason is not None:
        os.close(descriptor)
        raise UnfitFile(errno.EPERM, f"{reason}: somebody else put it there; nothing is written to it. Remove it", path)
    return descriptor


def _why_not_ours(status: os.stat_result, path: str) -> str | None:
    if status.st_nlink > 1:
        return "it has another name elsewhere"
    if status.st_uid in (os.geteuid(), 0):
        return None
    above = os.stat(os.path.dirname(path) or ".")
    if status.st_uid == above.st_uid or status.st_gid == above.st_gid:
        return None
    return f"it belongs to user {status.st_uid} and group {status.st_gid}, not to those of its directory"


def find_untrusted(path: str) -> str | None:
    """Say why other users could have changed the content of a directory; None if only this user can. Raises OSError."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"{path} is writable by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return find_untrusted_above(path, trusts_owners=False)


def find_untrusted_above(path: str, trusts_owners: bool = True) -> str | None:
    """Say why other users could replace the directory at `path`; None if they cannot.

    They can if everybody may rename entries of a directory above it. They also can if a directory or link above it belongs
    to another user and lies where everybody may write. Without `trusts_owners`, any other user's directory above it counts.
    """
    above = os.path.abspath(path)
    while above != "/":
        above = os.path.dirname(above)
        status = os.lstat(above)
        is_foreign = status.st_uid not in (0, os.geteuid())
        if is_foreign and (not trusts_owners or os.stat(os.path.dirname(above)).st_mode & 0o002):
            return f"{above} belongs to user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            refused = find_untrusted_above(f"{os.path.realpath(above)}/x", trusts_owners)
            if refused is not None:
                return refused
        # In a sticky directory such as /var/tmp, users can only move their own files.
        elif status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
            return f"{above} is writable by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None
