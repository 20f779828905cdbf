"""A node's cache of input files and packages: each is fetched once per node.

    <cache>/files/<key>     a whole file, read-only; its time of change says when it was last used
    <cache>/sums/<key>      the sha256 of the content that a key stands for
    <cache>/sums/<key>.seen    when this node first saw the origin show what the key holds: the boot, and its monotonic clock
    <cache>/locks/<n>       held while a file is fetched, on a local disk only, so that other processes of this node wait for it
    <cache>/files/.<mark>.<random>.new    being written

A key names the content (`sha256-…`, `md5-…`), or an origin and what it shows of its content (size, times, ETag). Each job
gets a copy and no link, because a job that writes to its input must not change the next job's. A killed process leaves a
`.new`, which the next process removes. A cache that cannot be used, or belongs to another user, costs speed and nothing else:
nothing here raises OSError.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator

from jobjar.fetching.copying import LOOKS_S, BetweenPieces, nothing
from jobjar.liveness import MARK, this_process
from jobjar.shared_disk.creating import create_file, open_shared, temporary_path
from jobjar.shared_disk.files import replace_file
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.locks import try_lock
from jobjar.shared_disk.mounts import is_local
from jobjar.shared_disk.owners import find_untrusted
from jobjar.shared_disk.regular import read_regular

# What is being written, also by an earlier version.
_LEFT = rf"\.{MARK}\.[0-9a-f]{{8,16}}\.(?:new|part)"
_LOCKS = 256
_FIRST_PAUSE_S = 0.01
_MOST_SUMS = 20_000
# The cache is measured after this process has added so many files, or this part of its size. Each process may exceed the limit by
# that much.
_MEASURED_EVERY_FILES = 256
_MEASURED_EVERY_PART = 64


class Cache:
    """A cache in the directory `path`, made when first needed, of at most about `max_bytes` (0: nothing is kept).
    `between_pieces` is called while this waits for other processes; an exception from it ends the wait."""

    def __init__(self, path: str, max_bytes: int, between_pieces: BetweenPieces = nothing) -> None:
        self.path = os.path.abspath(path)
        self._between_pieces = between_pieces
        self.max_bytes = max_bytes
        self._refused: str | None = None
        self._is_ready = False
        self._has_locks = False
        self._added_files = _MEASURED_EVERY_FILES
        self._added_bytes = 0

    def why_not(self) -> str | None:
        """Why the cache is not used; None where it is. Makes its directories."""
        if self.max_bytes <= 0:
            return "its size is set to 0"
        if not self._is_ready and self._refused is None:
            try:
                self._refused = self._make()
                self._is_ready = self._refused is None
            except OSError as error:
                self._refused = f"{error.filename or self.path}: {error.strerror}"
        return self._refused

    def _make(self) -> str | None:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        refused = find_untrusted(self.path)
        if refused is not None:
            return refused
        for name in ("files", "sums", "locks"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{self.path}/{name}", 0o700)
        if not os.access(f"{self.path}/files", os.W_OK | os.X_OK):
            return f"{self.path}/files cannot be written"
        self._has_locks = is_local(self.path)
        remove_leftovers(f"{self.path}/files", _LEFT)
        return None

    def open(self, key: str) -> int | None:
        """Open the file of a key, and mark it as used now. Returns its descriptor, None where there is no such file."""
        if self.why_not() is not None:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self.path}/files/{key}", flags)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.utime(descriptor)
                return descriptor
        os.close(descriptor)
        return None

    def forget(self, key: str) -> None:
        """Remove a file whose content does not match its key, or cannot be read."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self.path}/files/{key}")

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Make other processes of this node that want the same file wait. The kernel frees the lock of a killed process."""
        descriptor = -1
        try:
            if self.why_not() is None and self._has_locks:
                number = int(hashlib.sha256(key.encode()).hexdigest(), 16) % _LOCKS
                with contextlib.suppress(OSError):
                    descriptor = open_shared(f"{self.path}/locks/{number}", os.O_RDWR)
                    self._wait_for_lock(descriptor)
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        """Wait by polling. The holder may fetch from a server that hangs, and nothing could end a thread that waits in the
        kernel."""
        pause_s = _FIRST_PAUSE_S
        while not try_lock(descriptor):
            self._between_pieces()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOKS_S)

    def begin(self) -> Part | None:
        """Make a new file, to be written and then kept under its key. None where the cache is not used."""
        if self.why_not() is not None:
            return None
        path = temporary_path(f"{self.path}/files/")
        try:
            descriptor = create_file(path, 0o600)
        except OSError:
            return None
        return Part(self, path, descriptor)

    def added(self, size: int) -> None:
        """Count a new file of `size` bytes. Where the cache has got too large, remove the files used longest ago."""
        self._added_files += 1
        self._added_bytes += size
        if self._added_files < _MEASURED_EVERY_FILES and self._added_bytes < self.max_bytes // _MEASURED_EVERY_PART:
            return
        self._added_files = self._added_bytes = 0
        with contextlib.suppress(OSError):
            remove_leftovers(f"{self.path}/files", _LEFT)
            _shrink(f"{self.path}/files", self.max_bytes, 1 << 62)
            _shrink(f"{self.path}/sums", 1 << 62, _MOST_SUMS)

    def recall_sum(self, key: str) -> str | None:
        """The sha256 that was remembered for a key; None where there is none."""
        if self.why_not() is not None:
            return None
        try:
            text = read_regular(f"{self.path}/sums/{key}", size=65).decode("ascii")
        except (OSError, ValueError):
            return None
        return text if len(text) == 64 and not text.strip("0123456789abcdef") else None

    def note_first_look(self, key: str, now: float) -> float:
        """When a process of this node first saw this key, in seconds of time.monotonic, which all of them share. Returns `now`
        where none did since the node's boot."""
        path, boot = f"{self.path}/sums/{key}.seen", this_process().boot_id
        if self.why_not() is not None or sys.platform != "linux":
            return now
        with contextlib.suppress(OSError, ValueError):
            said, _, seconds = read_regular(path, size=200).decode().partition(" ")
            if said == boot and float(seconds) <= now:
                return float(seconds)
        with contextlib.suppress(OSError):
            replace_file(path, f"{boot} {now}".encode(), 0o600)
        return now

    def remember_sum(self, key: str, sha256: str) -> None:
        if self.why_not() is None:
            with contextlib.suppress(OSError):
                replace_file(f"{self.path}/sums/{key}", sha256.encode(), 0o600)


class Part:
    """A file on its way into a cache. Where the disk refuses, it is dropped and no error is raised."""

    def __init__(self, cache: Cache, path: str, descriptor: int) -> None:
        self._cache = cache
        self._path = path
        self._descriptor = descriptor
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._cache.max_bytes:
            self.drop()
        if self._descriptor >= 0:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                self.drop()

    def keep(self, key: str, is_runnable: bool) -> None:
        """Rename the file to its key, after a sync: a crash of the node must not leave half a file there."""
        if self._descriptor < 0:
            return
        try:
            os.fchmod(self._descriptor, 0o500 if is_runnable else 0o400)
            os.fsync(self._descriptor)
            os.rename(self._path, f"{self._cache.path}/files/{key}")
        except OSError:
            self.drop()
            return
        os.close(self._descriptor)
        self._descriptor = -1
        self._cache.added(self._size)

    def drop(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _shrink(directory: str, max_bytes: int, max_files: int) -> None:
    """Remove the files used longest ago, until the rest is small enough."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.path))
    total, count = sum(size for _, size, _ in found), len(found)
    for _, size, path in sorted(found):
        if total <= max_bytes and count <= max_files:
            break
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            os.unlink(path)
        total -= size
        count -= 1
