"""Moves that never overwrite: renames of jobs' files from one place to another.

A move is one rename. A kill at any instant leaves the file at its old place or at its new one, never at both or at neither.
On a file system without a rename that refuses to overwrite, it may leave a placeholder too (placeholder.py). files.py says
what is believed when a network disk reports an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from jobjar.job_file.names import numbered_name
from jobjar.shared_disk.files import look, look_afresh, rename
from jobjar.shared_disk.patience import TRANSIENT, do_once, is_transient, keep_trying, patiently
from jobjar.shared_disk.placeholder import new_placeholder, read_placeholder

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_renameat2: Callable[..., int] | None = None
_looked_for_renameat2 = False
# Directories whose file system refuses the flag. Each further try would cost a network disk two lookups of names.
_without_the_flag: set[str] = set()


def _load_renameat2() -> Callable[..., int] | None:
    global _renameat2, _looked_for_renameat2
    if not _looked_for_renameat2:
        _looked_for_renameat2 = True
        if sys.platform == "linux":
            import ctypes

            _renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return _renameat2


def move(source: str, destination: str) -> None:
    """Rename `source` to `destination`, which must not exist.

    Raises FileExistsError (nothing was moved), FileNotFoundError (somebody else moved it first), OSError.
    """
    directory = os.path.dirname(destination)
    if directory not in _without_the_flag and _load_renameat2() is not None:
        error = _rename_unless_taken(source, destination)
        if error is None:
            return
        if error.errno in TRANSIENT:
            _move_after_trouble(error, source, destination)
            return
        # NFS and others refuse the flag. A symbolic link reserves the name instead: only one process can make it.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise error
        _without_the_flag.add(directory)
    _move_over_placeholder(source, destination)


def _rename_unless_taken(source: str, destination: str) -> OSError | None:
    import ctypes

    call = _load_renameat2()
    assert call is not None
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), _RENAME_NOREPLACE) == 0:
        return None
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), source, None, destination)


def _move_after_trouble(error: OSError, source: str, destination: str) -> None:
    """Continue `move` by renameat2 after a first try that failed with a transient error, but may have happened."""
    seen: int | None = None  # the inode at the source, if it was seen there after the first try

    def move_again() -> None:
        nonlocal seen
        at_source = _inode(source)
        failure: OSError | None = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source, None, destination)
        if at_source is not None:
            seen = at_source
            failure = _rename_unless_taken(source, destination)
        if failure is None:
            return
        if failure.errno in (errno.ENOENT, errno.EEXIST) and _inode(source) is None:
            found = _inode(destination)
            if found is not None and seen in (None, found):
                return
        raise failure

    keep_trying(error, move_again, source)


def _move_over_placeholder(source: str, destination: str) -> None:
    """`move` on a file system without a rename that refuses to overwrite.

    A kill midway leaves the placeholder (placeholder.py), which recovery removes.
    """
    placeholder = new_placeholder()
    try:
        patiently(lambda: os.symlink(placeholder, destination), destination)
    except FileExistsError:
        if not _is_held(destination, placeholder):  # else a try that reported an error has made it
            raise

    def rename_over() -> None:
        try:
            os.rename(source, destination)
        except OSError:
            # A rename that failed may have happened (NFS retransmits): believe the destination, not the error.
            if _is_held(destination, placeholder):
                raise
            at_source = _inode(source)
            if at_source is not None and at_source != _inode(destination):
                # The placeholder has gone, but the file was not moved: a restarted server lost it. The name is not ours.
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, destination) from None

    try:
        patiently(rename_over, source)
    except OSError as error:
        # After a transient error the rename may still happen. The unlink would then remove the job, not the placeholder.
        if not is_transient(error) and _is_held(destination, placeholder):
            do_once(lambda: os.unlink(destination), destination)
        raise


def _is_held(path: str, placeholder: str) -> bool:
    """Whether our placeholder is still at `path`. Looks at the directory afresh, since NFS may have cached an earlier state."""
    look_afresh(os.path.dirname(path))
    return read_placeholder(path) == placeholder


def _inode(path: str) -> int | None:
    """Return the inode at `path`; None if nothing is there.

    The file is opened for that: after a rename that failed, NFS may have an older answer in its cache.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if is_transient(error):
            raise
        with contextlib.suppress(FileNotFoundError):  # a link, or a file that we may not read
            return os.lstat(path).st_ino
        return None
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def rename_directory(
    prepared: str, path: str, is_own: Callable[[], bool], source: int | None = None, target: int | None = None
) -> bool:
    """Rename a prepared directory to `path`, if nothing is there but an empty directory, which a killed process may have left.
    `prepared` and `path` may be names in the open directories `source` and `target`.

    Returns whether this directory has the name. Where the answer of the rename leaves that open, `is_own` looks what is there
    now. Raises OSError.
    """
    for is_second in (False, True):
        try:
            patiently(lambda: os.rename(prepared, path, src_dir_fd=source, dst_dir_fd=target), path)
            return True
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.ENOENT):
                raise
            # A rename that failed may have happened (NFS retransmits): believe what is there, not the error.
            if is_own():
                return True
            if error.errno == errno.ENOENT:
                raise
            if is_second or error.errno == errno.ENOTDIR:
                return False
        with contextlib.suppress(OSError):  # some disks do not replace an empty directory
            os.rmdir(path, dir_fd=target)
    return False


def move_under_own_name(source: str, destination: str) -> None:
    """`move` to a name that only this file ever gets. A placeholder there stands for a move of this same file, by another
    process or by one that was killed, so it may be replaced. Raises what `move` raises."""
    try:
        move(source, destination)
    except FileExistsError:
        if look(destination) is not None and read_placeholder(destination) is None:
            raise
        rename(source, destination)


def move_to_free_name(source: str, directory: str, name: str) -> str:
    """Move `source` into `directory` as `name`, or as `name~2`, `name~3` … if that is taken. Returns the name it got. Raises
    FileNotFoundError, OSError."""
    taken_name = name
    number = 2
    while True:
        try:
            move(source, f"{directory}/{taken_name}")
            return taken_name
        except FileExistsError:
            taken_name = numbered_name(name, number)
            number += 1


def move_to_own(source: str, directory: str, name: str) -> str:
    """`move_to_free_name` into a directory that only this process moves files into. A look whether the name is free is enough
    there. It saves a network disk the placeholder."""
    taken_name = name
    number = 2
    while look(f"{directory}/{taken_name}") is not None:
        taken_name = numbered_name(name, number)
        number += 1
    destination = f"{directory}/{taken_name}"
    try:
        rename(source, destination)
    except OSError:
        # A rename that failed may have happened (NFS retransmits): believe the destination, not the error.
        if look(destination) is None:
            raise
    return taken_name
