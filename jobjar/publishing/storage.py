"""Storing published files: the stock handler, and a storage software package of the user's own in its place.

The stock handler copies a file to STORAGE_PATH/output_path/name. The copy is made under a temporary name in the same
directory, synced, and read back; then it gets its name by a link, which never replaces a file. Killed anywhere it leaves a
temporary file at most, which the next handler on this node removes; done twice, or by two at once, it leaves one file.

Why a link and not moves.move: where a file system has no rename that refuses to overwrite (NFS), that one first takes the name
with an empty file, which a second handler, or one after a crash, would take for different content.

Nothing leaves the storage path. Below it each directory is opened by its name in the one before (openat) and no link is
followed, not even one that leads to another place in the storage path: what was checked by its path may be another thing
when it is used, if somebody else may write there. Whoever wants a part of it on another disk mounts that there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jobjar.errors import CannotStore, PublishedChanged, StorageFailed, StorageTaken
from jobjar.fetching.copies import (
    BetweenPieces,
    copy,
    measure,
    measure_stored,
    nothing,
    open_file,
    sweep,
    temporary_name,
)
from jobjar.host import host_name
from jobjar.jar import Jar
from jobjar.job_file.description import parse_output_path
from jobjar.publishing.outputs import OUTPUT, OutputFile, find_oddity
from jobjar.publishing.variables import STORED, StoredRecords, read_stored
from jobjar.shared_disk.files import look_afresh, make_directory
from jobjar.shared_disk.moves import move
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.placeholder import is_abandoned, read_placeholder
from jobjar.shared_disk.trees import remove_tree
from jobjar.shared_disk.umask import widen_mode

Record = dict[str, Any]
_LINKS_REFUSED = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EINVAL)
_RUN_BITS = 0o111
# Directories that this process has swept: a look at a large one for each file would take longer than storing it.
_swept: set[tuple[int, int]] = set()
_MOST_SWEPT = 10_000
_MOST_UNKNOWN = 20


def storage_path(jar: Jar) -> str:
    """Where this jar's outputs are stored: JJ_STORAGE_PATH, or storage/ in the jar, which is made where missing. A path that
    the setting names is not made: a disk that is not mounted must not be taken for an empty one. Raises OSError."""
    path = f"{jar.layout.home}/storage"
    if jar.settings.storage_path not in ("", path):
        return jar.settings.storage_path
    with contextlib.suppress(FileExistsError):
        make_directory(path)
    return path


def store_file(
    published_path: str, file: OutputFile, storage_path: str, output_path: str, between_pieces: BetweenPieces = nothing
) -> Record:
    """Store one published file as STORAGE_PATH/output_path/name; returns its record. One that is there already with the same
    content is stored. When it returns, the file outlives a crash of the node. `between_pieces` is called between pieces; what it
    raises ends the copy.

    Raises CannotStore, which no other try would help: StorageTaken (the name has other content), PublishedChanged (the file
    at `published_path` is not the one of the record), or a name that leads out of the storage path. Raises OSError
    where the disk refuses, which may be good later; nothing is left behind then.
    """
    directories, name = _split(file.name, output_path)
    place = _open_place(storage_path.rstrip("/"), directories, file.name)
    try:
        with _named(f"{place.shown}/{name}"):
            _sweep_once(place)
            _store_in(place, name, published_path, file, between_pieces)
            os.fsync(place.descriptor)
    finally:
        os.close(place.descriptor)
    stored_at = f"{place.shown}/{name}"
    return {
        "source_name": file.name,
        "storage_hfn": f"{host_name()}:{stored_at}",
        "storage_url": Path(stored_at).as_uri(),
        "storage_size": file.size,
        "storage_md5": file.md5,
    }


def _split(name: str, output_path: str) -> tuple[list[str], str]:
    """The directories below the storage path, and the name in the last of them. Raises CannotStore."""
    try:
        # The same rules for both: no .., no / at the beginning, no NUL.
        where = [part for part in parse_output_path(output_path).split("/") if part]
        parts = parse_output_path(name).split("/")
    except ValueError as error:
        raise CannotStore(name=repr(name), reason=str(error)) from error
    if name != "/".join(parts) or not name:
        raise CannotStore(name=repr(name), reason="that is no name of a file")
    for part in parts:
        oddity = find_oddity(part)
        if oddity:
            raise CannotStore(name=ascii(name), reason=f"it {oddity}")
    return [*where, *parts[:-1]], parts[-1]


def _open_place(storage_path: str, directories: Sequence[str], name: str) -> _Place:
    """Open the directory that a file is stored in; those below the storage path are made where missing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = patiently(lambda: os.open(storage_path or "/", flags), storage_path)
    path = storage_path
    try:
        for part in directories:
            path = f"{path}/{part}"
            with _named(path):
                inner = _open_inner(descriptor, part, path, flags | os.O_NOFOLLOW, name)
            os.close(descriptor)
            descriptor = inner
    except BaseException:
        os.close(descriptor)
        raise
    return _Place(descriptor, path)


def _open_inner(parent: int, part: str, path: str, flags: int, name: str) -> int:
    try:
        try:
            return patiently(lambda: os.open(part, flags, dir_fd=parent), path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another handler's
                patiently(lambda: os.mkdir(part, dir_fd=parent), path)
            os.fsync(parent)
            made = patiently(lambda: os.open(part, flags, dir_fd=parent), path)
            widen_mode(made, 0o777)
            return made
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise CannotStore(name=repr(name), reason=f"{path}: {error.strerror}") from error
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            is_link = stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode)
            what = "a symbolic link, which could lead out of the storage path" if is_link else "not a directory"
            raise CannotStore(name=repr(name), reason=f"{path} is {what}") from error
        raise


class _Place(NamedTuple):
    """A directory in the storage path: open, and as people know it."""

    descriptor: int
    shown: str

    def path(self) -> str:
        """A path that stays this directory's, whatever is renamed above it."""
        return f"/proc/self/fd/{self.descriptor}" if sys.platform == "linux" else self.shown


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors inside say what people know, not the number of a descriptor or a name without its directory."""
    try:
        yield
    except OSError as error:
        if not os.path.isabs(str(error.filename)) or str(error.filename).startswith("/proc/self/fd/"):
            error.filename = path
            error.filename2 = None
        raise


def _sweep_once(place: _Place) -> None:
    status = os.fstat(place.descriptor)
    key = status.st_dev, status.st_ino
    if key not in _swept:
        if len(_swept) >= _MOST_SWEPT:
            _swept.clear()
        sweep(place.path())
        _swept.add(key)


def _store_in(place: _Place, name: str, published_path: str, file: OutputFile, between_pieces: BetweenPieces) -> None:
    if _is_stored(place, name, file, between_pieces):
        return
    temporary = temporary_name()
    try:
        _copy_published(published_path, file, place, temporary, between_pieces)
        try:
            _give_name(place, temporary, name, file)
        except FileExistsError:
            # Another handler's, or what this one did in a try that the disk reported as failed.
            if not _is_stored(place, name, file, between_pieces):
                raise
    finally:
        with contextlib.suppress(OSError):  # what led here is the error to tell, and the next handler sweeps
            os.unlink(temporary, dir_fd=place.descriptor)


def _is_stored(place: _Place, name: str, file: OutputFile, between_pieces: BetweenPieces) -> bool:
    """Whether the file is there, whole and durable; False where nothing is. Raises StorageTaken where something else is."""
    published = f"{file.size} bytes, md5 {file.md5}"
    shown = f"{place.shown}/{name}"
    try:
        descriptor = open_file(name, place.descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise CannotStore(name=repr(file.name), reason=f"{shown}: {error.strerror}") from error
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise
        if error.errno == errno.ELOOP:
            _check_unheld(place, name)
        found = "a symbolic link" if error.errno == errno.ELOOP else "not a regular file"
        raise StorageTaken(name=repr(file.name), path=shown, found=found, published=published) from error
    try:
        size = os.fstat(descriptor).st_size
        md5 = measure(descriptor, between_pieces)[1] if size == file.size else None
        if md5 != file.md5:
            found = f"{size} bytes" + (f", md5 {md5}" if md5 else "")
            raise StorageTaken(name=repr(file.name), path=shown, found=found, published=published)
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


def _check_unheld(place: _Place, name: str) -> None:
    """Raise OSError where another handler holds the name at this moment, or was killed in it (shared_disk/placeholder.py); what
    a dead one of this node left is removed, for the next try."""
    holder = read_placeholder(f"{place.path()}/{name}")
    if holder is not None:
        if is_abandoned(holder):
            os.unlink(name, dir_fd=place.descriptor)
        reason = f"another handler holds the name ({holder}); where that one is dead, on another node, remove it"
        raise OSError(errno.EBUSY, reason, f"{place.shown}/{name}")


def _copy_published(
    published_path: str, file: OutputFile, place: _Place, temporary: str, between_pieces: BetweenPieces
) -> None:
    """Copy to the temporary name, make that durable, and read it back."""
    source = _open_published(published_path)
    try:
        mode = 0o666 | os.fstat(source).st_mode & _RUN_BITS
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(temporary, flags, mode, dir_fd=place.descriptor)
        try:
            _compare_published(published_path, file, copy(source, target, between_pieces, file.size))
            widen_mode(target, mode)
            os.fsync(target)
            if measure_stored(target, between_pieces) != (file.size, file.md5):
                raise OSError(errno.EIO, "what was written is not what is read back", f"{place.shown}/{temporary}")
        finally:
            os.close(target)
    finally:
        os.close(source)


def _open_published(path: str) -> int:
    try:
        try:
            return open_file(path)
        except FileNotFoundError:
            look_afresh(os.path.dirname(path))  # NFS remembers a missing name; published elsewhere, it may be new here
            return open_file(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise
        raise PublishedChanged(path=path, reason=(error.strerror or "it is gone").lower()) from error


def _compare_published(path: str, file: OutputFile, measured: tuple[int, str]) -> None:
    size, md5 = measured
    if size > file.size:
        raise PublishedChanged(path=path, reason=f"it is longer than its {file.size} bytes")
    if (size, md5) != (file.size, file.md5):
        reason = f"it has {size} bytes and md5 {md5} in place of {file.size} and {file.md5}"
        raise PublishedChanged(path=path, reason=reason)


def _give_name(place: _Place, temporary: str, name: str, file: OutputFile) -> None:
    """Raises FileExistsError where the name is taken, OSError."""
    where = place.descriptor
    shown = f"{place.shown}/{name}"
    try:
        # COMMIT: from here the file is stored
        patiently(lambda: os.link(temporary, name, src_dir_fd=where, dst_dir_fd=where, follow_symlinks=False), shown)
    except OSError as error:
        if error.errno not in _LINKS_REFUSED:
            raise
        try:
            move(f"{place.path()}/{temporary}", f"{place.path()}/{name}")  # COMMIT: as above
        except FileExistsError:
            _check_unheld(place, name)
            raise


def run_storage_software(
    directory: str,
    published: str,
    files: Sequence[OutputFile],
    run: Callable[[str], int],
    between_pieces: BetweenPieces = nothing,
) -> StoredRecords:
    """Have a storage software package of the user's own store the published files in the directory `published`; returns a
    record of each, with the warnings of reading jug_storage.log.

    `directory` is an empty one, the working directory of its storage_command; in it output/ has the published files: hard
    links where the disk allows it, so that a handler that moves them away and is then killed loses none, else output is a
    link to them. `run` runs the command in that directory to its end and returns its exit status. Its log has to have a
    record of every file; sizes and md5 that it gives are compared with the published ones, those that it does not give are
    filled in.

    Raises PublishedChanged; StorageFailed where the command fails or its log does not tell of every file (to be tried
    again); OSError.
    """
    for file in files:
        path = f"{published}/{file.name}"
        source = _open_published(path)
        try:
            _compare_published(path, file, copy(source, None, between_pieces, file.size))
        finally:
            os.close(source)
    _offer_files(f"{directory}/{OUTPUT}", published, files)
    status = run(directory)
    if status != 0:
        raise StorageFailed(what=f"{len(files)} files", reason=f"its storage_command ended with exit status {status}")
    said = read_stored(f"{directory}/{STORED}")
    records = {record["source_name"]: record for record in said.records}
    stored = [_check_record(file, records.pop(file.name, None)) for file in files]
    unknown = [f"{STORED}: a record of {name!r}, which was not published" for name in list(records)[:_MOST_UNKNOWN]]
    if len(records) > _MOST_UNKNOWN:
        unknown.append(f"{STORED}: {len(records) - _MOST_UNKNOWN} more records of what was not published")
    return StoredRecords(stored, [*said.warnings, *unknown])


def _offer_files(offered: str, published: str, files: Sequence[OutputFile]) -> None:
    try:
        os.mkdir(offered)
        for file in files:
            target = f"{offered}/{file.name}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.link(f"{published}/{file.name}", target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (*_LINKS_REFUSED, errno.EXDEV):
            raise
        remove_tree(offered)
        os.symlink(published, offered)


def _check_record(file: OutputFile, record: Record | None) -> Record:
    if record is None:
        raise StorageFailed(what=repr(file.name), reason=f"{STORED} has no record of it")
    for field, published in (("storage_size", file.size), ("storage_md5", file.md5)):
        if record.get(field, published) != published:
            reason = f"{STORED} gives {field} {record[field]}; published was {published}"
            raise StorageFailed(what=repr(file.name), reason=reason)
    return {**record, "storage_size": file.size, "storage_md5": file.md5}
