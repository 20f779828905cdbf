"""What an array is: its indexes, its entries, its script, and what each of its tasks was given.

    batches/<array>/batch.json          the batch that the array is; its field `array` says the rest
    batches/<array>/array/script        what each task runs
    batches/<array>/array/entries       one entry a task, one after the other; only if it has entries
    batches/<array>/array/entries.at    where each begins, and where the last ends: unsigned 64-bit numbers, least byte first

All are written before the batch is committed. Job Jar changes nothing of them later but the `lives` of batch.json; a hand may
mend them. Reads them; `write_files` writes them.
"""

from __future__ import annotations

import array
import errno
import functools
import itertools
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar.arrays.indexes import MOST_INDEX, MOST_TASKS, Indexes
from jobjar.batches.state import fails_fast
from jobjar.errors import JarError
from jobjar.job_file.names import check_category, check_identifier, check_priority
from jobjar.job_file.patterns import fill_pattern
from jobjar.job_file.request import lines_of_request
from jobjar.layout import BatchPaths, Layout
from jobjar.ledger.apply_tasks import are_lives
from jobjar.shared_disk.contents import (
    BATCH,
    Unreadable,
    is_count,
    is_flag,
    is_name,
    is_time,
    read_document,
)
from jobjar.shared_disk.creating import create_anew
from jobjar.shared_disk.files import look, read_status, sync_directory, write_all
from jobjar.shared_disk.regular import UnfitFile, open_regular

if TYPE_CHECKING:
    from jobjar.job_file.given import Given

# The kinds of entries: a line's text, or a JSON value. An array of indexes has none.
LINES, JSON = "lines", "json"
_OFFSET_BYTES = 8
_WRITTEN_TOGETHER = 1 << 16


class Unusable(Exception):
    """No task of an array can run before a person has mended something, with the reason."""


class Definition(NamedTuple):
    """An array as workers need it. Times in seconds. None: the worker's setting counts."""

    uid: str
    indexes: Indexes
    entries: str
    script: str
    retries: int | None
    retry_delay_s: float | None
    time_limit_s: float | None
    given: Given | None
    pipes_output: bool
    name: str
    category: str
    fails_fast: bool
    # The `#JJ` lines of its chunks that say what a task asks for.
    lines: str = ""

    def output_path(self, stream: str, index: int, attempt: int) -> str | None:
        """The path of the file for a stream of a task ("output", "error"), by the pattern that the array was given; None if it
        has none. What was there before may have led to another."""
        pattern = None if self.given is None else getattr(self.given, stream)
        if pattern is None:
            return None
        return fill_pattern(pattern, self.uid, self.name or self.uid, self.category, attempt, index)


def describe(indexes: Indexes, entries: str, attributes: Mapping[str, Any], pipes_output: bool) -> dict[str, Any]:
    """The field `array` of a batch.json."""
    known = {
        name: attributes[name] for name in ("retries", "retry_delay_s", "time_limit_s", "given") if name in attributes
    }
    range_ = {"first": indexes.first, "last": indexes.last, "step": indexes.step}
    return {**range_, "entries": entries, "pipes_output": pipes_output, **known}


def write_files(paths: BatchPaths, script: bytes, mode: int, entries: Iterable[bytes] | None) -> None:
    """Write an array's files into the directory of its batch, which the caller's change holds. Raises OSError."""
    os.mkdir(paths.array)
    _write(paths.script, [script], mode)
    if entries is not None:
        lengths = array.array("Q", [0])

        def chunks() -> Iterable[bytes]:
            iterator = iter(entries)
            while some := list(itertools.islice(iterator, _WRITTEN_TOGETHER)):
                ends = itertools.accumulate(map(len, some), initial=lengths[-1])
                lengths.extend(itertools.islice(ends, 1, None))
                yield b"".join(some)

        _write(paths.entries, chunks(), 0o644)
        if sys.byteorder == "big":
            lengths.byteswap()
        _write(paths.entries_at, [lengths.tobytes()], 0o644)
    sync_directory(paths.array)


def _write(path: str, pieces: Iterable[bytes], mode: int) -> None:
    descriptor = create_anew(path, 0o600, os.O_RDWR)
    try:
        for piece in pieces:
            write_all(descriptor, piece)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_definition(layout: Layout, uid: str) -> Definition:
    """Read what an array is, if its file is another than last time. Raises Unreadable, UnfitFile, OSError."""
    status = read_status(layout.batch(uid).file)
    return _read(layout, uid, (status.st_ino, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=64)
def _read(layout: Layout, uid: str, _: tuple[int, int, int]) -> Definition:
    path = layout.batch(uid).file
    batch: Any = read_document(path, BATCH)
    said = batch.get("array")
    if not is_array(said):
        raise Unreadable("it does not say what an array is")
    from jobjar.job_file.given import Given, read_given

    given = read_given(said["given"], path) if "given" in said else None
    return Definition(
        uid,
        Indexes(said["first"], said["last"], said["step"]),
        said["entries"],
        layout.batch(uid).script,
        said.get("retries"),
        said.get("retry_delay_s"),
        said.get("time_limit_s"),
        None if given == Given() else given,
        said["pipes_output"],
        said.get("name", ""),
        said.get("category", ""),
        fails_fast(batch["keys"]),
        lines_of_request(said.get("given") or {}),
    )


def read_usable(layout: Layout, uid: str) -> Definition:
    """`read_definition` for a worker that is to run tasks. Raises Unusable if none can run before a person has mended something,
    OSError while the disk, or this user's rights, refuse it."""
    paths = layout.batch(uid)
    try:
        definition = read_definition(layout, uid)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unusable(f"its array {uid} is gone: somebody removed or moved {paths.path}") from error
    except (Unreadable, UnfitFile) as error:
        reason = error.strerror if isinstance(error, UnfitFile) else error
        raise Unusable(f"its array {uid} is damaged: {paths.file}: {reason}") from error
    needed = [paths.script, *([paths.entries, paths.entries_at] if definition.entries else [])]
    missing = next((path for path in needed if look(path) is None), None)
    if missing is not None:
        raise Unusable(f"its array {uid} is damaged: {missing} is missing")
    return definition


def is_array(said: Any) -> bool:
    """Whether this is what `describe` writes: anybody who may write to the jar may have written it."""
    if type(said) is not dict or not all(is_count(said.get(name)) for name in ("first", "last", "step")):
        return False
    first, last, step = said["first"], said["last"], said["step"]
    if not step or not first <= last <= MOST_INDEX or (last - first) % step or (last - first) // step >= MOST_TASKS:
        return False
    return (
        said.get("entries") in ("", LINES, JSON)
        and is_flag(said.get("pipes_output"))
        and is_count(said.get("retries", 0))
        and all(is_time(said.get(name, 0)) for name in ("retry_delay_s", "time_limit_s"))
        and are_lives(said.get("lives", []))
        and all(is_name(uid) for uid in said.get("after_each", ()))
        and _has_chunks_like_jobs(said)
    )


def _has_chunks_like_jobs(said: Mapping[str, Any]) -> bool:
    """Whether chunks can be called so, and what their tasks were given is that of jobs."""
    from jobjar.job_file.given import read_given

    try:
        check_identifier(said.get("name") or "a")
        check_category(said.get("category") or "a")
        check_priority(said.get("priority", 0))
        read_given({} if said.get("given") is None else said["given"], "")
    except (JarError, TypeError, AttributeError):
        return False
    return type(said.get("given", {})) is dict


class Entries:
    """The entries of a range of an array's tasks, read together."""

    def __init__(self, paths: BatchPaths, all_indexes: Indexes, wanted: Indexes) -> None:
        """Raises OSError, UnfitFile."""
        first = (wanted.first - all_indexes.first) // all_indexes.step
        descriptor = open_regular(paths.entries_at)
        try:
            data = os.pread(descriptor, (wanted.count + 1) * _OFFSET_BYTES, first * _OFFSET_BYTES)
        finally:
            os.close(descriptor)
        if len(data) != (wanted.count + 1) * _OFFSET_BYTES:
            raise UnfitFile(errno.EINVAL, "it is cut short", paths.entries_at)
        self._offsets = array.array("Q", data)
        if sys.byteorder == "big":
            self._offsets.byteswap()
        self._wanted = wanted
        begin, end = self._offsets[0], self._offsets[-1]
        descriptor = open_regular(paths.entries)
        try:
            if not begin <= end <= os.fstat(descriptor).st_size:
                raise UnfitFile(errno.EINVAL, "it is cut short", paths.entries)
            self._text = os.pread(descriptor, end - begin, begin)
        finally:
            os.close(descriptor)

    def of(self, index: int) -> bytes:
        number = (index - self._wanted.first) // self._wanted.step
        begin = self._offsets[0]
        return self._text[self._offsets[number] - begin : self._offsets[number + 1] - begin]
