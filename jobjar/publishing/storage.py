"""Store published files: by the stock handler, or by the user's own storage software package in its place.

The stock handler copies a file to STORAGE_PATH/output_path/name. It makes the copy under a temporary name in the same directory,
syncs it, and reads it back. Then a link gives the copy its name; a link never replaces a file. A kill anywhere leaves at most a
temporary file, which the next handler on this node removes. Storing twice, or by two processes at once, leaves one file.

Why a link and not moves.move: on a file system whose rename cannot refuse to overwrite (NFS), moves.move first takes the name
with a placeholder. A second handler, or one after a crash, would have to tell that from different content.

Nothing leaves the storage path. Below it, each directory is opened by its name in the one above (openat). No link is followed,
not even one to another directory in the storage path: if others may write there, a checked path may lead elsewhere when it is
used. To have a part of the storage path on another disk, mount that disk there.
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
from jobjar.fetching.copying import (
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
from jobjar.publishing.outputs import find_oddity
from jobjar.publishing.underway import OUTPUT, OutputFile
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
# Directories that this process has swept. Listing a large one for each file would take longer than storing the file.
_swept: set[tuple[int, int]] = set()
_MOST_SWEPT = 10_000
_MOST_UNKNOWN = 20


def storage_path(jar: Jar) -> str:
    """The path where this jar's outputs are stored: JJ_STORAGE_PATH, or storage/ in the jar, which is made where missing. The
    path of the setting is not made, because a disk that is not mounted must not look like an empty one. Raises OSError."""
    path = f"{jar.layout.home}/storage"
    if jar.settings.storage_path not in ("", path):
        return jar.settings.storage_path
    with contextlib.suppress(FileExistsError):
        make_directory(path)
    return path


def store_file(
    published_path: str, file: OutputFile, storage_path: str, output_path: str, between_pieces: BetweenPieces = nothing
) -> Record:
    """Store one published file as STORAGE_PATH/output_path/name. Returns its record. A file that is there already with the same
    content counts as stored. After the return, the file outlives a crash of the node. `between_pieces` is called between pieces;
    an exception from it ends the copy.

    Raises CannotStore where another try would not help: StorageTaken (the name has other content), PublishedChanged (the file at
    `published_path` differs from `file`), or a name that leads out of the storage path. Raises OSError where the disk refuses; a
    later try may succeed, and nothing is left behind.
    """
    directories, name = _split(file.name, output_path)
    directory = _open_storage_directory(storage_path.rstrip("/"), directories, file.name)
    try:
        with _named(f"{directory.shown}/{name}"):
            _sweep_once(directory)
            _store_in(directory, name, published_path, file, between_pieces)
            os.fsync(directory.descriptor)
    finally:
        os.close(directory.descriptor)
    stored_at = f"{directory.shown}/{name}"
    return {
        "source_name": file.name,
        "storage_hfn": f"{host_name()}:{stored_at}",
        "storage_url": Path(stored_at).as_uri(),
        "storage_size": file.size,
        "storage_md5": file.md5,
    }


def _split(name: str, output_path: str) -> tuple[list[str], str]:
    """Split into the directories below the storage path, and the name in the last of them. Raises CannotStore."""
    try:
        # Both follow the same rules: no .., no / at the beginning, no NUL.
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


def _open_storage_directory(storage_path: str, directories: Sequence[str], name: str) -> _Directory:
    """Open the directory that a file is stored in. Directories below the storage path are made where missing."""
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
    return _Directory(descriptor, path)


def _open_inner(parent: int, part: str, path: str, flags: int, name: str) -> int:
    try:
        try:
            return patiently(lambda: os.open(part, flags, dir_fd=parent), path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another handler made it
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


class _Directory(NamedTuple):
    """A directory in the storage path: its open descriptor, and its path as people know it."""

    descriptor: int
    shown: str

    def path(self) -> str:
        """A path that stays valid on Linux when directories above this one are renamed."""
        return f"/proc/self/fd/{self.descriptor}" if sys.platform == "linux" else self.shown


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Put a path that people know into the errors raised inside, in place of a descriptor's path or a bare name."""
    try:
        yield
    except OSError as error:
        if not os.path.isabs(str(error.filename)) or str(error.filename).startswith("/proc/self/fd/"):
            error.filename = path
            error.filename2 = None
        raise


def _sweep_once(directory: _Directory) -> None:
    status = os.fstat(directory.descriptor)
    key = status.st_dev, status.st_ino
    if key not in _swept:
        if len(_swept) >= _MOST_SWEPT:
            _swept.clear()
        sweep(directory.path())
        _swept.add(key)


def _store_in(
    directory: _Directory, name: str, published_path: str, file: OutputFile, between_pieces: BetweenPieces
) -> None:
    if _is_stored(directory, name, file, between_pieces):
        return
    temporary = temporary_name()
    try:
        _copy_published(published_path, file, directory, temporary, between_pieces)
        try:
            _give_name(directory, temporary, name, file)
        except FileExistsError:
            # Another handler stored it, or this one did in a try that the disk reported as failed.
            if not _is_stored(directory, name, file, between_pieces):
                raise
    finally:
        with contextlib.suppress(OSError):  # an earlier error is the one to report; the next handler sweeps
            os.unlink(temporary, dir_fd=directory.descriptor)


def _is_stored(directory: _Directory, name: str, file: OutputFile, between_pieces: BetweenPieces) -> bool:
    """Whether the file is there, whole and durable; False where nothing is. Raises StorageTaken where the name has other
    content."""
    published = f"{file.size} bytes, md5 {file.md5}"
    shown = f"{directory.shown}/{name}"
    try:
        descriptor = open_file(name, directory.descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise CannotStore(name=repr(file.name), reason=f"{shown}: {error.strerror}") from error
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise
        if error.errno == errno.ELOOP:
            _check_unheld(directory, name)
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


def _check_unheld(directory: _Directory, name: str) -> None:
    """Raise OSError where another handler holds the name at this moment, or was killed while it did
    (shared_disk/placeholder.py). The placeholder of a dead handler of this node is removed, for the next try."""
    holder = read_placeholder(f"{directory.path()}/{name}")
    if holder is not None:
        if is_abandoned(holder):
            os.unlink(name, dir_fd=directory.descriptor)
        reason = f"another handler holds the name ({holder}); where that one is dead, on another node, remove it"
        raise OSError(errno.EBUSY, reason, f"{directory.shown}/{name}")


def _copy_published(
    published_path: str, file: OutputFile, directory: _Directory, temporary: str, between_pieces: BetweenPieces
) -> None:
    """Copy to the temporary name, sync the copy, and read it back."""
    source = _open_published(published_path)
    try:
        mode = 0o666 | os.fstat(source).st_mode & _RUN_BITS
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(temporary, flags, mode, dir_fd=directory.descriptor)
        try:
            _compare_published(published_path, file, copy(source, target, between_pieces, file.size))
            widen_mode(target, mode)
            os.fsync(target)
            if measure_stored(target, between_pieces) != (file.size, file.md5):
                raise OSError(errno.EIO, "what was written is not what is read back", f"{directory.shown}/{temporary}")
        finally:
            os.close(target)
    finally:
        os.close(source)


def _open_published(path: str) -> int:
    try:
        try:
            return open_file(path)
        except FileNotFoundError:
            # NFS remembers that a name was missing, but another node may have published it.
            look_afresh(os.path.dirname(path))
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


def _give_name(directory: _Directory, temporary: str, name: str, file: OutputFile) -> None:
    """Give the temporary file its name. Raises FileExistsError where the name is taken, OSError."""
    where = directory.descriptor
    shown = f"{directory.shown}/{name}"
    try:
        # COMMIT: from here the file is stored
        patiently(lambda: os.link(temporary, name, src_dir_fd=where, dst_dir_fd=where, follow_symlinks=False), shown)
    except OSError as error:
        if error.errno not in _LINKS_REFUSED:
            raise
        try:
            move(f"{directory.path()}/{temporary}", f"{directory.path()}/{name}")  # COMMIT: as above
        except FileExistsError:
            _check_unheld(directory, name)
            raise


def run_storage_software(
    directory: str,
    published: str,
    files: Sequence[OutputFile],
    run: Callable[[str], int],
    between_pieces: BetweenPieces = nothing,
) -> StoredRecords:
    """Store the published files in the directory `published` by the user's own storage software package. Returns a record of
    each, and the warnings of reading jug_storage.log.

    `directory` is an empty directory, the working directory of the storage_command. Its output/ gets the published files: hard
    links where the disk allows it, so that a handler that moves them away and is then killed loses none. Else output is a link to
    `published`. `run` runs the command in that directory to its end, and returns its exit status. The command's log must have a
    record of every file. Its sizes and md5 are compared with the published ones; missing ones are filled in.

    Raises PublishedChanged; StorageFailed where the command fails, or its log lacks a file (another try may succeed); OSError.
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
