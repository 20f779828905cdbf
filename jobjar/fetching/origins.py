"""The origins that files are fetched from: a path of this node, an http(s) address, a path of another host (remote.py).

An origin is opened, shows signs of its content (size, times, ETag) before that is read, and copies the content. Writes nothing
itself.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from typing import Protocol

from jobjar.access.refusals import explain_reason
from jobjar.errors import CannotFetch
from jobjar.fetching.copying import BetweenPieces, nothing
from jobjar.fetching.remote import FileOfHost, HttpFile, Writer as Writer, hide_password as hide_password
from jobjar.fetching.settled import SETTLED_S
from jobjar.host import host_name
from jobjar.job_file.description import is_file_address, path_of_file_address
from jobjar.shared_disk.files import write_all
from jobjar.shared_disk.mounts import is_local
from jobjar.shared_disk.patience import patiently

_CHUNK = 1 << 20
# No leading hyphen, because ssh would take the host for an option.
_HOST_PATH = re.compile(
    r"((?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])):(/(?!/).*)", re.DOTALL
)


class FileWriter:
    """A Writer to an open file. `failure` is an error of that file, not of the origin that the bytes come from."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            self.failure = error
            raise
        self.take(data)
        self.size += len(data)
        return len(data)

    def take(self, data: bytes) -> None:
        """Called with bytes after they were written. For subclasses."""


class Origin(Protocol):
    """One file somewhere. `open` is called first. All methods may raise CannotFetch."""

    # Whether the node's cache is used: a copy from a local disk costs the same as one from the cache.
    is_remote: bool
    is_runnable: bool

    def open(self) -> None: ...

    def shown(self) -> str | None:
        """A text that changes when the content changes; None where nothing like that is known."""

    def is_settled(self, made: os.stat_result | None) -> bool:
        """Whether any change from now on is certain to alter `shown`, by the clock that gave the file its time. `made`: the
        status of a file that was made just before. Call it after `shown`, and before the content is read."""

    def copy_to(self, writer: Writer) -> None: ...
    def close(self) -> None: ...


def local_path(location: str) -> str | None:
    """The path of a location on this node; None where it is elsewhere. Raises CannotFetch for a malformed location."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    if scheme and scheme.group(1).lower() in ("http", "https"):
        return None
    if is_file_address(location):
        location = _path_of_file_address(location)
    elif scheme:
        raise CannotFetch(
            location=hide_password(location), reason="files are fetched from paths, file:, http:, https: and host:/path"
        )
    found = _HOST_PATH.fullmatch(location)
    if found:
        return found.group(2) if _is_this_node(found.group(1)) else None
    if not location.startswith("/"):
        raise CannotFetch(
            location=location, reason="it is not an absolute path, and a worker runs in no place of yours"
        )
    return location


def _path_of_file_address(location: str) -> str:
    try:
        return path_of_file_address(location)
    except ValueError:
        raise CannotFetch(location=location, reason="it is not of the form file:///path") from None


def _is_this_node(host: str) -> bool:
    name = host.lower()
    own = host_name().lower()
    return name in ("localhost", own, own.partition(".")[0])


def find_origin(location: str, between_pieces: BetweenPieces = nothing) -> Origin:
    """The origin that a location names. `between_pieces` is called between pieces of its content, and while this waits for it; an
    exception from it ends the work. Raises CannotFetch."""
    path = local_path(location)
    if path is not None:
        return LocalFile(path, location, between_pieces)
    if is_file_address(location):
        location = _path_of_file_address(location)
    found = _HOST_PATH.fullmatch(location)
    return FileOfHost(found.group(1), found.group(2), between_pieces) if found else HttpFile(location, between_pieces)


# Whether a disk is local, by its device number. Remembered, because the table of mounts is long where there are containers.
_local_disks: dict[int, bool] = {}


def _is_on_local_disk(path: str, disk: int) -> bool:
    if disk not in _local_disks:
        _local_disks[disk] = is_local(path)
    return _local_disks[disk]


class LocalFile:
    """A file with a path on this node, on a disk of any kind."""

    def __init__(self, path: str, location: str, between_pieces: BetweenPieces = nothing) -> None:
        self.path = path
        self._between_pieces = between_pieces
        self._location = location
        self._descriptor = -1
        self.is_runnable = False
        self.is_remote = False

    def _refuse(self, reason: str | None) -> CannotFetch:
        where = "" if self._location == self.path else f"{self.path}: "
        return CannotFetch(location=self._location, reason=f"{where}{reason}")

    def open(self) -> None:
        # O_NONBLOCK: a fifo without a writer must not block.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._descriptor = patiently(lambda: os.open(self.path, flags), self.path)
            self._status = os.fstat(self._descriptor)
        except (OSError, ValueError) as error:
            raise self._refuse(explain_reason(error) if isinstance(error, OSError) else str(error)) from error
        if not stat.S_ISREG(self._status.st_mode):
            is_directory = stat.S_ISDIR(self._status.st_mode)
            kind = "a directory; name the files in it" if is_directory else "not a regular file"
            raise self._refuse(f"it is {kind}")
        self.is_runnable = bool(self._status.st_mode & 0o100)
        self.is_remote = not _is_on_local_disk(self.path, self._status.st_dev)

    def shown(self) -> str | None:
        found = self._status
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"

    def is_settled(self, made: os.stat_result | None) -> bool:
        if not self.is_remote:
            now = time.time()  # this node's kernel gives the file its times
        elif made is not None and made.st_dev == self._status.st_dev:
            now = made.st_ctime
        else:
            return False
        return now - max(self._status.st_mtime, self._status.st_ctime) > SETTLED_S

    def read_all(self, take: Callable[[bytes], object]) -> None:
        """Pass all of the content to `take`. Raises CannotFetch where it cannot be read, or changes meanwhile."""

        def read(offset: int) -> bytes:
            return patiently(lambda: os.pread(self._descriptor, _CHUNK, offset), self.path)

        offset = 0
        # The size bounds the loop: a file that grows all the time would have no end.
        while offset <= self._status.st_size:
            try:
                chunk = read(offset)
            except OSError as error:
                raise self._refuse(explain_reason(error)) from error
            if not chunk:
                break
            take(chunk)
            offset += len(chunk)
            self._between_pieces()
        before, self._status = self._status, os.fstat(self._descriptor)
        if (before.st_size, before.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise self._refuse("it was changed while it was read")

    def copy_to(self, writer: Writer) -> None:
        self.read_all(writer.write)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
