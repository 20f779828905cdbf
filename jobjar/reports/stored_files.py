"""Find stored files, and copy them. Brings the ledger up to date and reads it.

A copy is written beside its destination under a temporary name, verified and synced; then it gets its final name. A kill midway
leaves the temporary file, which the next copy to the same directory removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

from jobjar.errors import (
    AmbiguousOutput,
    CannotFetch,
    CannotGetOutput,
    UnknownBatch,
    UnknownBatchOrJob,
    UnknownJob,
    UnknownOutput,
)
from jobjar.fetching.copying import sweep, temporary_name
from jobjar.fetching.origins import FileWriter, LocalFile, Writer, find_origin, hide_password, local_path
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.ledger.ask_stored_files import StoredOutput, batch_has_jobs, list_stored
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from jobjar.selecting.unknown import suggest_batch
from jobjar.shared_disk.files import sync_directory
from jobjar.shared_disk.moves import move
from jobjar.shared_disk.umask import widen_mode
from jobjar.text import as_text

_CHUNK_BYTES = 1 << 20
_SHOWN = 10


def list_outputs(jar: Jar, name: str | None = None) -> list[StoredOutput]:
    """The stored files of a batch, of a job (name, id, the beginning of an id, path), or of all jobs. If a batch and a job share
    a name, the batch wins. Raises UnknownBatchOrJob, AmbiguousJob."""
    refresh_ledger(jar)
    if name is None:
        return list_stored(jar.ledger)
    name = as_text(name)
    if batch_has_jobs(jar.ledger, name):
        return list_stored(jar.ledger, batch=name)
    try:
        job = find_job(jar, name)
    except UnknownJob as error:
        raise UnknownBatchOrJob(job=name, home=jar.layout.home, hint=error.fields["hint"]) from None
    return list_stored(jar.ledger, job=job.uid or "")


def find_stored_output(jar: Jar, name: str, job: str | None = None, batch: str | None = None) -> StoredOutput:
    """The one stored file with a logical name, among those of a job or batch if given. Files of several jobs count as one if they
    have the same place and the same content.

    Raises UnknownOutput, AmbiguousOutput (naming the jobs), UnknownBatch, UnknownJob, AmbiguousJob.
    """
    refresh_ledger(jar)
    name, batch = as_text(name), None if batch is None else as_text(batch)
    if batch is not None and not batch_has_jobs(jar.ledger, batch):
        raise UnknownBatch(name=batch, home=jar.layout.home, hint=suggest_batch(jar, batch))
    uid = None if job is None else find_job(jar, job).uid or ""
    found = list_stored(jar.ledger, batch, uid, name)
    if not found:
        raise UnknownOutput(name=repr(name))
    recorded = {(one.storage_hfn, one.storage_url, one.storage_size, one.storage_md5) for one in found}
    if len(found) > 1 and (len(recorded) > 1 or next(iter(recorded))[:2] == (None, None)):
        jobs = list(dict.fromkeys(f"{one.job}{f' of batch {one.batch}' if one.batch else ''}" for one in found))
        raise AmbiguousOutput(name=repr(name), count=len(found), jobs=name_some(jobs, _SHOWN))
    return found[-1]


def copy_output(output: StoredOutput, destination: str | None = None, force: bool = False) -> str:
    """Copy a stored file to a path or into a directory; by default into the current directory, under its base name. Returns the
    path. The size and md5 must be the recorded ones. An existing file is replaced only with `force`.

    Raises CannotGetOutput, CannotFetch; the destination is unchanged then.
    """
    path = _destination(output, destination)
    taken = CannotGetOutput(name=repr(output.name), reason=f"{path} is there already; --force replaces a file")
    if os.path.lexists(path) and not (force and (os.path.islink(path) or os.path.isfile(path))):
        raise taken  # do not replace a device or a pipe; use `-` to write to one
    try:
        _copy(output, path, taken, force)
    except OSError as error:
        raise CannotGetOutput(name=repr(output.name), reason=f"{path}: {error.strerror or error}") from error
    return path


def _copy(output: StoredOutput, path: str, taken: CannotGetOutput, force: bool) -> None:
    directory = os.path.dirname(path) or "."
    sweep(directory)
    temporary = f"{directory}/{temporary_name()}"
    try:
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            widen_mode(target, 0o666)
            write_output(output, target)
            os.fsync(target)
        finally:
            os.close(target)
        if force:
            os.replace(temporary, path)
        else:
            try:
                move(temporary, path)
            except FileExistsError:
                raise taken from None
        sync_directory(directory)
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)


def _destination(output: StoredOutput, destination: str | None) -> str:
    if destination and not destination.endswith("/") and not os.path.isdir(destination):
        return destination
    base = os.path.basename(output.name)
    if base in ("", ".", ".."):
        raise CannotGetOutput(name=repr(output.name), reason="it has no base name; name a file to copy it to")
    return os.path.join(destination or "", base)


def write_output(output: StoredOutput, descriptor: int) -> None:
    """Write a stored file's content to an open file, and verify what was written. Raises CannotGetOutput (also after all was
    written, if it is not what was stored), CannotFetch, OSError of the file written to."""
    sink = _Sink(descriptor)
    with _open_stored(output) as origin:
        origin.copy_to(sink)
    found = {"storage_size": sink.size, "storage_md5": sink.md5.hexdigest()}
    for field, value in found.items():
        recorded = getattr(output, field)
        if recorded not in (None, value):
            what = field.removeprefix("storage_")
            raise CannotGetOutput(name=repr(output.name), reason=f"its {what} is {value}; stored was {recorded}")


class _Sink(FileWriter):
    """A file to copy to, with the md5 of all that is written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.md5 = hashlib.md5(usedforsecurity=False)

    def take(self, data: bytes) -> None:
        self.md5.update(data)


class _Source(Protocol):
    def open(self) -> None: ...
    def copy_to(self, writer: Writer) -> None: ...
    def close(self) -> None: ...


@contextlib.contextmanager
def _open_stored(output: StoredOutput) -> Iterator[_Source]:
    """Open the first of a file's origins that can be opened."""
    refused = []
    for origin in _origins(output):
        with contextlib.closing(origin):
            try:
                origin.open()
            except CannotFetch as error:
                refused.append(str(error))
                continue
            yield origin
            return
    reason = "; ".join(refused) or "where it is stored was not recorded"
    raise CannotGetOutput(name=repr(output.name), reason=reason)


def _origins(output: StoredOutput) -> Iterator[_Source]:
    """The origins that a file may be read from, cheapest first: a path on this node; the same path as on another node (a shared
    disk), if an md5 can prove that it is the same file; its address; the other node."""
    hfn, url = output.storage_hfn, output.storage_url
    is_address = url is not None and not url.lower().startswith("file:")
    if hfn is not None and ":/" in hfn:
        path = local_path(hfn)
        shared = hfn.partition(":")[2]
        if path is not None:
            yield LocalFile(path, hfn)
        elif output.storage_md5 is not None and os.path.isfile(shared):
            yield LocalFile(shared, shared)
    elif url is not None and not is_address:
        yield find_origin(url)
    if url is not None and is_address:
        yield find_origin(url) if url.lower().startswith(("http:", "https:")) else _Address(url)
    if hfn is not None and ":/" in hfn and local_path(hfn) is None:
        yield find_origin(hfn)


class _Address:
    """An address of any kind that fsspec knows and has the packages for (s3, gs, sftp …)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._file: Any = None

    def _refuse(self, error: Exception) -> CannotFetch:
        reason = " ".join(str(error).split()) or type(error).__name__
        return CannotFetch(location=hide_password(self._address), reason=reason)

    def open(self) -> None:
        import fsspec

        try:
            self._file = fsspec.open(self._address, "rb").open()
        except Exception as error:  # each kind of address raises its own errors
            raise self._refuse(error) from error

    def copy_to(self, writer: Writer) -> None:
        while True:
            try:
                piece = self._file.read(_CHUNK_BYTES)
            except Exception as error:
                raise self._refuse(error) from error
            if not piece:
                return
            writer.write(piece)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
