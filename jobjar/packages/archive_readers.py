"""Read tar and zip archives in one way: their members, the members' contents, and whether the archive is complete.

Writes nothing. unpack.py decides which members are allowed.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol

from jobjar.fetching.copying import BetweenPieces, nothing

FILE, DIRECTORY, SYMLINK, HARDLINK = "file", "directory", "symbolic link", "hard link"
# tar pads its end to a record of some KiB. A longer end is an attempt to keep the reader busy.
_LONGEST_END = 1 << 24
_BLOCK = 512
_LONGEST_TARGET = 4096
# tarfile reads the extended header of a member into memory, whatever its size: names, maps of sparse files, and extended
# attributes of at most 64 KiB each.
_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_BUFFER = 1 << 18
# The exceptions of the readers for contents that they do not understand.
DAMAGE: tuple[type[Exception], ...] = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
with contextlib.suppress(ImportError):
    import lzma

    DAMAGE += (lzma.LZMAError,)


class Member(NamedTuple):
    """One member: `name` as in the archive, `path` below the directory ("" for the directory itself), `kind` one of the four
    above or a description of another kind, `target` of a link, `entry` the reader's own object."""

    name: str
    path: str
    kind: str
    mode: int
    size: int
    target: str
    modified_at: float
    entry: Any


class Reader(Protocol):
    """An open archive."""

    # Whether a later member replaces an earlier one of the same name, as with `tar --append`.
    may_repeat: bool

    def members(self) -> Iterator[Member]: ...
    def open(self, member: Member) -> IO[bytes]: ...
    def check_end(self) -> None: ...
    def check_again(self, member: Member, directory: str) -> None: ...
    def close(self) -> None: ...


class Refused(Exception):
    pass


def explain_plainly(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def open_archive(path: str, between_pieces: BetweenPieces = nothing) -> Reader:
    """Open an archive. Each read of its file calls `between_pieces`."""
    return _ZipReader(path, between_pieces) if is_zip(path) else _TarReader(path, between_pieces)


class _WatchedFile(io.FileIO):
    """The file of an archive. Each read calls `between_pieces`, so that the work can be given up between two reads: the unpacked
    data may be a thousand times as large as the file."""

    def __init__(self, path: str, between_pieces: BetweenPieces) -> None:
        super().__init__(path)
        self._between_pieces = between_pieces

    def readinto(self, buffer: Any, /) -> int | None:
        self._between_pieces()
        return super().readinto(buffer)


def _open_watched(path: str, between_pieces: BetweenPieces) -> io.BufferedReader:
    return io.BufferedReader(_WatchedFile(path, between_pieces), _BUFFER)


def is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def normal_path(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class _TarInfo(tarfile.TarInfo):
    """Bounds how much tarfile reads for the header of a member."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        file: Any = archive.fileobj
        limited: Any = _HeaderFile(file, self.name)
        archive.fileobj = limited
        try:
            found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        finally:
            archive.fileobj = file
        return found


class _HeaderFile:
    """The file of an archive while a member's header is read: at most _LONGEST_HEADER bytes."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        self._left = _LONGEST_HEADER

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise Refused(f"{self._name!r} has an extended header of more than {_LONGEST_HEADER} bytes")
        self._left -= size
        data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _TarReader:
    """A tar archive with any compression that tarfile knows."""

    may_repeat = True

    def __init__(self, path: str, between_pieces: BetweenPieces) -> None:
        self._file = _open_watched(path, between_pieces)
        try:
            self._tar = tarfile.open(path, "r:*", self._file, tarinfo=_TarInfo)  # noqa: SIM115
        except BaseException:
            self._file.close()
            raise

    def members(self) -> Iterator[Member]:
        for entry in self._tar:
            yield Member(
                entry.name,
                normal_path(entry.name),
                _kind_in_tar(entry),
                entry.mode,
                entry.size if entry.isreg() else 0,
                entry.linkname,
                entry.mtime,
                entry,
            )

    def open(self, member: Member) -> IO[bytes]:
        opened = self._tar.extractfile(member.entry)
        assert opened is not None  # it is a file
        return opened

    def check_end(self) -> None:
        """Raise Refused where the archive's end is wrong. tarfile takes a missing or unreadable header for the end. Reading on to
        the real end makes the decompressors compare their checksums."""
        file: Any = self._tar.fileobj
        file.seek(self._tar.offset)
        block = file.read(_BLOCK)
        if len(block) < _BLOCK or any(block):
            raise Refused("it is damaged: it is cut off, or a member's header cannot be read")
        read = 0
        while chunk := file.read(_CHUNK):
            read += len(chunk)
            if read > _LONGEST_END:
                raise Refused("it goes on long after its end")

    def check_again(self, member: Member, directory: str) -> None:
        """Apply tarfile's own rules for data too (PEP 706), where this Python has them. Raises Refused."""
        if hasattr(tarfile, "data_filter"):
            try:
                tarfile.data_filter(member.entry, directory)
            except tarfile.FilterError as error:
                raise Refused(f"{member.name!r}: {explain_plainly(error)}") from error

    def close(self) -> None:
        self._tar.close()
        self._file.close()


def _kind_in_tar(entry: tarfile.TarInfo) -> str:
    if entry.isreg() or entry.isdir():
        return FILE if entry.isreg() else DIRECTORY
    if entry.issym() or entry.islnk():
        return SYMLINK if entry.issym() else HARDLINK
    if entry.isfifo():
        return "a fifo"
    return "a device" if entry.isdev() else f"of an unknown kind ({entry.type!r})"


class _ZipReader:
    """A zip archive. The upper half of the external attributes holds the Unix mode (PKWARE's APPNOTE, 4.4.15)."""

    may_repeat = False

    def __init__(self, path: str, between_pieces: BetweenPieces) -> None:
        self._file = _open_watched(path, between_pieces)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except BaseException:
            self._file.close()
            raise

    def members(self) -> Iterator[Member]:
        for entry in self._zip.infolist():
            # The name as in the archive: zipfile cuts `filename` at a NUL.
            if "\\" in entry.orig_filename or "\0" in entry.orig_filename:
                raise Refused(f"{entry.orig_filename!r} has a backslash or a NUL in its name")
            if entry.flag_bits & 0x1:
                raise Refused(f"{entry.filename!r} is encrypted")
            mode = entry.external_attr >> 16
            kind = _kind_in_zip(entry, mode)
            target = ""
            if kind == SYMLINK:
                if entry.file_size > _LONGEST_TARGET:
                    raise Refused(f"{entry.filename!r} is a symbolic link with {entry.file_size} bytes for its target")
                target = os.fsdecode(self._zip.read(entry))
            default = 0o755 if kind == DIRECTORY else 0o644
            size = entry.file_size if kind == FILE else 0
            # zip's years begin with 1980, and its local times may not exist; mktime takes both.
            modified_at = time.mktime((*entry.date_time, 0, 0, -1))
            path = normal_path(entry.filename)
            yield Member(entry.filename, path, kind, mode or default, size, target, modified_at, entry)

    def open(self, member: Member) -> IO[bytes]:
        return self._zip.open(member.entry)

    def check_end(self) -> None:
        pass  # the list of members is at the end, and was read already

    def check_again(self, member: Member, directory: str) -> None:
        pass

    def close(self) -> None:
        self._zip.close()
        self._file.close()


def _kind_in_zip(entry: zipfile.ZipInfo, mode: int) -> str:
    kind = stat.S_IFMT(mode)
    if entry.is_dir() and kind in (0, stat.S_IFDIR):
        return DIRECTORY
    if kind in (0, stat.S_IFREG):
        return FILE
    if kind == stat.S_IFDIR:
        return DIRECTORY
    if kind == stat.S_IFLNK:
        return SYMLINK
    return "a fifo" if kind == stat.S_IFIFO else "a device, or of an unknown kind"
