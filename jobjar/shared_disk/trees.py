"""Removal of directory trees. No other module removes the content of a directory.

A job may have left a mount in its directory. The files behind a mount are not the job's, so nothing is removed across a mount
or through a link. The removal goes by descriptors, and the kernel refuses each step across a mount: openat2 with
RESOLVE_NO_XDEV, since device numbers do not show a mount of the same disk. A mount is not even looked at, since the server of
a dead one would not answer. Whatever cannot be removed stays, and is returned. A kill midway leaves a part of the tree, which
the next removal removes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobjar.shared_disk.patience import is_transient

# The most entries that a removal returns as kept.
_MOST_KEPT = 10
_LONGEST_SHOWN = 300
_MOUNTED = "something is mounted there"
_SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# New system calls of Linux have one number on all kinds of machines except Alpha.
_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
# Errors of unlink that may mean a directory. Linux answers EISDIR; other systems, or a directory of another user above, give
# the others.
_ANSWERS_OF_DIRECTORIES = (errno.EISDIR, errno.EPERM, errno.EACCES)


class Kept(NamedTuple):
    """A path that could not be removed, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        when = "once that is unmounted" if self.reason.startswith(_MOUNTED) else "when it can be removed"
        return f"{self.path} stays: {self.reason}. recover_jobs removes it {when}"


class _Level(NamedTuple):
    """A directory on the way down: its name in the one above, its device and inode, the directories in it that are still to be
    removed, and how many entries had been kept before it."""

    name: str
    identity: tuple[int, int]
    directories: list[str]
    kept_before: int
    is_second_look: bool


class _Stays(OSError):
    """The directory above cannot be entered again: it has changed, or a mount is in the way."""


def remove_tree(path: str) -> list[Kept]:
    """Remove a file, a link, or a directory with everything in it. The job may have made parts of it unreadable, unwritable,
    or nested deeper than a path can be long. Mounts in it stay, with the directories that lead to them.

    Returns what stays and why, at most the first 10. A missing path leaves nothing. Errors of a disk that is away or read-only
    are not returned: the next write to it reports them.
    """
    above_path, name = os.path.split(path)
    try:
        above = os.open(above_path or ".", _SEARCH)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [Kept(path, _explain(error))]
    try:
        return _Removal(above_path).remove(above, [name])
    finally:
        os.close(above)


def remove_entry(directory: int, path: str, name: str) -> list[Kept]:
    """`remove_tree` of the entry `name` in an open directory. `path` is the directory's path, for messages."""
    return _Removal(path).remove(directory, [name])


def remove_empty_directories(path: str) -> None:
    """Remove a directory and all directories in it that are empty or become so. No file is touched. Raises OSError if the
    directory above cannot be opened."""
    above_path, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError):
        above = os.open(above_path or ".", _SEARCH)
        try:
            _Removal(above_path, removes_files=False).remove(above, [name])
        finally:
            os.close(above)


class _Removal:
    """One removal. It needs only a few descriptors and no recursion, however deep the tree is."""

    def __init__(self, place: str, removes_files: bool = True) -> None:
        self._place = place
        self._removes_files = removes_files
        self._kept: list[Kept] = []
        self._count = 0

    def remove(self, top: int, names: Iterable[str]) -> list[Kept]:
        """Remove the entries of these names in the open directory `top`, which stays open. Returns what stays."""
        for name in self._remove_files(top, names, ()):
            with contextlib.suppress(FileNotFoundError):
                self._remove_directory(top, name)
        return self._kept

    def _remove_directory(self, top: int, name: str) -> None:
        levels: list[_Level] = []
        here = os.dup(top)
        try:
            here = self._descend(here, name, levels)
            while levels:
                level = levels[-1]
                if level.directories:
                    with contextlib.suppress(FileNotFoundError):  # somebody else removed it
                        here = self._descend(here, level.directories.pop(), levels)
                    continue
                above = os.dup(top) if len(levels) == 1 else self._go_up(here, levels)
                levels.pop()
                os.close(here)
                here = above
                if self._count > level.kept_before:
                    continue  # something in it stays, and was counted
                try:
                    os.rmdir(level.name, dir_fd=here)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and not level.is_second_look:
                        with contextlib.suppress(FileNotFoundError):
                            here = self._descend(here, level.name, levels, is_second_look=True)
                    else:
                        self._keep(levels, level.name, error)
        except _Stays as error:
            self._keep(levels[:-1], levels[-1].name, error)
        finally:
            os.close(here)

    def _descend(self, here: int, name: str, levels: list[_Level], is_second_look: bool = False) -> int:
        """Enter a directory and remove its files. Returns the descriptor to go on with. Raises FileNotFoundError."""
        try:
            inner = enter_directory(here, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._keep(levels, name, error)
            return here
        kept_before = self._count
        level = _Level(name, _identity(inner), [], kept_before, is_second_look)
        levels.append(level)
        os.close(here)
        try:
            level.directories.extend(self._remove_files(inner, os.listdir(inner), levels))
        except OSError as error:
            self._keep(levels[:-1], name, error)
        return inner

    def _go_up(self, here: int, levels: list[_Level]) -> int:
        """Open the directory above. Raises _Stays if that is not the same one any more: nothing is touched there then."""
        try:
            above = enter_directory(here, "..")
        except OSError as error:
            raise _Stays(error.errno, _explain(error)) from error
        if _identity(above) == levels[-2].identity:
            return above
        os.close(above)
        raise _Stays(errno.EBUSY, "it was moved while it was removed")

    def _remove_files(self, directory: int, names: Iterable[str], levels: Iterable[_Level]) -> list[str]:
        """Remove everything that is no directory. Returns the names of the directories. No entry's type is looked up first, since
        that would already be a question to a mount there."""
        directories = []
        for name in names:
            if not self._removes_files:
                directories.append(name)
                continue
            try:
                os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno in _ANSWERS_OF_DIRECTORIES and _may_be_directory(directory, name, error):
                    directories.append(name)
                else:
                    self._keep(levels, name, error)
        return directories

    def _keep(self, levels: Iterable[_Level], name: str, error: OSError) -> None:
        self._count += 1
        if len(self._kept) < _MOST_KEPT and error.errno != errno.EROFS and not is_transient(error):
            path = "/".join([self._place, *(level.name for level in levels), name])
            shown = (
                path if len(path) <= _LONGEST_SHOWN else f"{path[: _LONGEST_SHOWN // 2]}…{path[-_LONGEST_SHOWN // 2 :]}"
            )
            self._kept.append(Kept(shown, _explain(error)))


def _may_be_directory(directory: int, name: str, error: OSError) -> bool:
    if error.errno == errno.EISDIR:
        return True
    try:
        descriptor = _open_here(directory, name, _SEARCH | os.O_NOFOLLOW)
    except OSError as refusal:
        return refusal.errno == errno.EXDEV
    os.close(descriptor)
    return True


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _explain(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return _MOUNTED
    if error.errno == errno.EBUSY and not isinstance(error, _Stays):
        return f"{_MOUNTED}, or uses it"
    return error.strerror or str(error)


def enter_directory(directory: int, name: str) -> int:
    """Open a directory in an open directory, and let its owner list and change it. Raises OSError: EXDEV for a mount, ENOTDIR or
    ELOOP for something that is no directory."""
    try:
        descriptor = _open_here(directory, name, _LIST)
    except PermissionError:
        closed = _open_here(directory, name, _SEARCH | os.O_NOFOLLOW)
        try:
            # An unreadable directory can only be opened with O_PATH, which fchmod refuses; its path in /proc works.
            os.chmod(f"/proc/self/fd/{closed}", stat.S_IRWXU)
            return os.open(".", _LIST, dir_fd=closed)
        finally:
            os.close(closed)
    mode = os.fstat(descriptor).st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):  # the removal will fail and report it
            os.fchmod(descriptor, stat.S_IMODE(mode) | stat.S_IRWXU)
    return descriptor


def _open_here(directory: int, name: str, flags: int) -> int:
    """Open the entry `name` in a directory, if it is on the same mount. Raises OSError (EXDEV: another mount)."""
    openat2 = _find_openat2()
    if openat2 is not None:
        return openat2(directory, name, flags)
    # O_PATH asks no file system. Once the entry is known to be on this mount, it can be opened as ".".
    closed = os.open(name, _SEARCH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        if _mount_of(closed) != _mount_of(directory):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return os.open(".", flags, dir_fd=closed)
    finally:
        os.close(closed)


def _mount_of(descriptor: int) -> str:
    """Identify the mount that an open file is on; its disk, if the kernel does not show the mount."""
    if sys.platform == "linux":
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            for line in file:
                if line.startswith("mnt_id:"):
                    return line
    return str(os.fstat(descriptor).st_dev)


@functools.cache
def _find_openat2() -> Callable[[int, str, int], int] | None:
    """Return openat2(2) with RESOLVE_NO_XDEV; None if the kernel has none, or a sandbox refuses it."""
    if sys.platform != "linux":
        return None
    import ctypes

    class How(ctypes.Structure):
        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(How), ctypes.c_size_t)

    def openat2(directory: int, name: str, flags: int) -> int:
        how = How(flags, 0, _RESOLVE_NO_XDEV)
        while True:
            descriptor = int(call(_OPENAT2, directory, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how)))
            if descriptor >= 0:
                return descriptor
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number), name)

    here = os.open("/", _SEARCH)
    try:
        os.close(openat2(here, ".", _SEARCH))
    except OSError:
        return None
    finally:
        os.close(here)
    return openat2
