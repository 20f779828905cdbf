"""Fetch a file from the location in a description (a path, `file:`, `http(s):`, `host:/path`), and verify it.

Writes one regular file under a temporary name beside its destination (copying.temporary_name), and renames it: it is there whole
or not at all. Also writes the node's cache (cache.py). A kill midway leaves the temporary file.

http(s) is read through fsspec. `host:/path` is read by the node's own `ssh`, which has people's keys, host keys and settings as
they work in a terminal. fsspec's sftp (paramiko) has not, and it accepts any unknown host.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any

from jobjar.errors import CannotFetch
from jobjar.fetching.cache import Cache as Cache, Part
from jobjar.fetching.copying import BetweenPieces, nothing, temporary_name
from jobjar.fetching.origins import FileWriter, LocalFile, Origin, find_origin, hide_password
from jobjar.fetching.settled import has_settled
from jobjar.job_file.description import Source

_CHUNK = 1 << 20
# The piece per call of copy_file_range. Nothing ends such a call midway, and it copies where it cannot share blocks.
_CLONED_AT_ONCE = 1 << 26


class _Mismatch(Exception):
    """The content has another sum than the description says."""


class Sink(FileWriter):
    """Writes fetched bytes to the destination and the cache, and sums them. `failure` is an error of the destination."""

    def __init__(self, descriptor: int, source: Source, part: Part | None) -> None:
        super().__init__(descriptor)
        self._source = source
        self._part = part
        self._sums: dict[str, Any] = {}
        for kind, wanted in (("md5", source.md5), ("sha256", source.sha256)):
            if wanted is not None:
                self._sums[kind] = hashlib.new(kind, usedforsecurity=False)

    def take(self, data: bytes) -> None:
        for made in self._sums.values():
            made.update(data)
        if self._part is not None:
            self._part.write(data)

    @property
    def is_summed(self) -> bool:
        return bool(self._sums)

    def check(self) -> None:
        """Raises _Mismatch, which names both sums."""
        for kind, made in self._sums.items():
            wanted = getattr(self._source, kind)
            if made.hexdigest() != wanted:
                raise _Mismatch(explain_mismatch(kind, made.hexdigest(), wanted))


def explain_mismatch(kind: str, found: str, wanted: str | None) -> str:
    """Explain that a source's content has another sum, of this kind, than its description says, and what to do."""
    return f"its {kind} is {found}, not {wanted} as the description says; correct the description, or put the right file there"


def fetch(source: Source, destination: str, cache: Cache | None, between_pieces: BetweenPieces = nothing) -> None:
    """Copy `source` to `destination`, replacing a file that is there.

    The copy is a regular file, with the run bit where the source has one, and with the md5 and sha256 that the source names. It
    may come from the cache. `between_pieces` is called between pieces, and during waits; an exception from it ends the work.
    Raises CannotFetch (the file is missing, not reached, no regular file, or has another sum: both are named), and OSError where
    the destination's disk refuses. Nothing is left behind then.
    """
    directory = os.path.dirname(os.path.abspath(destination))
    temporary = f"{directory}/{temporary_name()}"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o777)
    try:
        try:
            is_runnable = _fill(source, descriptor, cache, between_pieces)
            if not is_runnable:
                os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o666)
        finally:
            os.close(descriptor)
        os.rename(temporary, destination)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _fill(source: Source, descriptor: int, cache: Cache | None, between_pieces: BetweenPieces) -> bool:
    """Write the source's content. Returns whether it may be run."""
    by_sum = _key_by_sum(source)
    if cache is not None and by_sum is not None:
        runnable = _copy_from_cache(source, by_sum, descriptor, cache, between_pieces)
        if runnable is not None:
            return runnable
    made = os.fstat(descriptor)
    with contextlib.closing(find_origin(source.location, between_pieces)) as origin:
        origin.open()
        if cache is None or not origin.is_remote:
            _copy_from_origin(source, origin, descriptor, None)
            return origin.is_runnable
        shown = origin.shown()
        key = by_sum or (key_of_origin(source.location, shown) if shown else None)
        if key is None:
            _copy_from_origin(source, origin, descriptor, None)
            return origin.is_runnable
        if by_sum is None and not has_settled(origin, key, cache, made):
            # Files in the cache were settled when they came. This copy is not kept, because the next change may not show.
            if _copy_from_cache(source, key, descriptor, cache, between_pieces) is None:
                _copy_from_origin(source, origin, descriptor, None)
            return origin.is_runnable
        with cache.locked(key):
            # Looks again: another process may have fetched the file while this one waited.
            if _copy_from_cache(source, key, descriptor, cache, between_pieces) is None:
                part = cache.begin()
                try:
                    _copy_from_origin(source, origin, descriptor, part)
                    if part is not None:
                        part.keep(key, origin.is_runnable)
                finally:
                    if part is not None:
                        part.drop()
        return origin.is_runnable


def _key_by_sum(source: Source) -> str | None:
    if source.sha256:
        return f"sha256-{source.sha256}"
    return f"md5-{source.md5}" if source.md5 else None


def key_of_origin(location: str, shown: str) -> str:
    """The cache's key of an origin and what it shows of its content."""
    return "at-" + hashlib.sha256(f"{location}\0{shown}".encode("utf-8", "surrogateescape")).hexdigest()


def _copy_from_cache(
    source: Source, key: str, descriptor: int, cache: Cache, between_pieces: BetweenPieces
) -> bool | None:
    """Write the cache's content, verified. Returns whether it may be run; None where the cache does not have it."""
    found = cache.open(key)
    if found is None:
        return None
    try:
        sink = Sink(descriptor, source, None)
        if sink.is_summed or not _clone(found, descriptor, between_pieces):
            _copy_descriptor(found, sink, between_pieces)
            sink.check()
        return bool(os.fstat(found).st_mode & 0o100)
    except _Mismatch:
        cache.forget(key)  # damaged since it was written
    except OSError:
        if sink.failure is not None:
            raise sink.failure from None
        cache.forget(key)  # it cannot be read
    finally:
        os.close(found)
    _empty(descriptor)
    return None


def _empty(descriptor: int) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)


def _clone(found: int, descriptor: int, between_pieces: BetweenPieces) -> bool:
    """Copy in the kernel, which lets both files share blocks where the file system can. Returns whether it worked."""
    if not hasattr(os, "copy_file_range"):
        return False
    try:
        while os.copy_file_range(found, descriptor, _CLONED_AT_ONCE):
            between_pieces()
    except OSError:
        # It does not work between these disks. Or the disk is full: the plain copy meets that again, and reports it.
        os.lseek(found, 0, os.SEEK_SET)
        _empty(descriptor)
        return False
    return True


def _copy_descriptor(found: int, sink: Sink, between_pieces: BetweenPieces) -> None:
    while chunk := os.read(found, _CHUNK):
        sink.write(chunk)
        between_pieces()


def _copy_from_origin(source: Source, origin: Origin, descriptor: int, part: Part | None) -> None:
    sink = Sink(descriptor, source, part)
    try:
        origin.copy_to(sink)
        sink.check()
    except _Mismatch as error:
        raise CannotFetch(location=hide_password(source.location), reason=str(error)) from error
    except Exception as error:
        # A destination that refused is the reason, whatever error followed.
        if sink.failure is not None and error is not sink.failure:
            raise sink.failure from error
        raise


def sum_of_source(source: Source, cache: Cache | None, between_pieces: BetweenPieces = nothing) -> str | None:
    """The sha256 of a source's content; None where it is not known without fetching. It comes from the description, from reading
    a file on this node's disks, or from last time, where the origin shows that the content has not changed. Raises CannotFetch,
    also where the content has another md5 than the description says."""
    if source.sha256 is not None:
        return source.sha256
    with contextlib.closing(find_origin(source.location, between_pieces)) as origin:
        origin.open()
        key = _key_of_sum(source, origin)
        known = _recall(key, cache)
        is_settled = key is not None and known is None and has_settled(origin, key, cache)
        if known is None and isinstance(origin, LocalFile):
            made, other = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

            def take(data: bytes) -> None:
                made.update(data)
                if source.md5:
                    other.update(data)

            origin.read_all(take)
            if source.md5 not in (None, other.hexdigest()):
                raise CannotFetch(
                    location=source.location, reason=explain_mismatch("md5", other.hexdigest(), source.md5)
                )
            known = made.hexdigest()
            if is_settled:
                remember_sum(key, known, cache)
        return known


def key_of_sum(source: Source, cache: Cache | None, between_pieces: BetweenPieces = nothing) -> str | None:
    """The key under which the sum of a source's content is remembered. None where its origin shows nothing, or may not show a
    change that comes now. Raises CannotFetch."""
    with contextlib.closing(find_origin(source.location, between_pieces)) as origin:
        origin.open()
        key = _key_of_sum(source, origin)
        return key if key is not None and has_settled(origin, key, cache) else None


def _key_of_sum(source: Source, origin: Origin) -> str | None:
    shown = origin.shown()
    # The key includes the description's md5, which was compared before the sum was remembered.
    return key_of_origin(source.location, f"{shown} {source.md5}") if shown else None


# This process's own memory of sums, for its next jobs where there is no cache.
_sums: dict[str, str] = {}
_MOST_SUMS = 1000


def _recall(key: str | None, cache: Cache | None) -> str | None:
    if key is None:
        return None
    return _sums.get(key) or (cache.recall_sum(key) if cache is not None else None)


def remember_sum(key: str | None, sha256: str, cache: Cache | None) -> None:
    """Remember a sum under the key that `key_of_sum` returned; does nothing for None."""
    if key is None:
        return
    if len(_sums) >= _MOST_SUMS:
        _sums.clear()
    _sums[key] = sha256
    if cache is not None:
        cache.remember_sum(key, sha256)


def sum_of_file(path: str, between_pieces: BetweenPieces = nothing) -> str:
    """The sha256 of a file. Raises OSError."""
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            made.update(chunk)
            between_pieces()
    return made.hexdigest()
