"""Rotate and compress this home's journals, so that entries folded long ago take little room.

A rotation writes another journal's name into the home's `writer` file (`rain.1a2b3c4d`, then `rain.1a2b3c4d-2` …). The old
journal keeps its name and its content, and ends. Processes that have it open follow within a second of their next look
(journal/append.py); late entries in it are folded as ever. A journal is compressed once it has ended, no process has appended
to it for a day, and this home has folded it to its end. The steps: write under a temporary name, fsync, read it again, rename
to `X.<end>.jsonl.gz`, and only then remove `X.jsonl`.

The journals of this node's lost homes are compressed too, if it is certain that no process will append to them. That is so if the
node was started again since, because a home outside of its jar then takes another name (home.py). The boot id shows that, which
workers journal when they start.

A kill between the rename and the removal leaves both files, with the same content. Readers take `X.jsonl`, and the next night
compresses again. An earlier kill leaves a temporary file, which the next night removes.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from typing import NamedTuple

from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.journal.growth import remove_marks
from jobjar.journal.read import compressed_path, journal_key, list_journals, parse_line, read_journal
from jobjar.ledger.fold import fold_journal, folded_until
from jobjar.ledger.home import split_journal_name
from jobjar.liveness import boot_id
from jobjar.shared_disk.creating import (
    create_file,
    temporary_of_nodes,
    temporary_path_of_node,
)
from jobjar.shared_disk.files import sync_directory
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.regular import UnfitFile, open_regular, passing_over, read_regular

# A journal is rotated when it has this size; a smaller one is not worth a file of its own.
ROTATE_BYTES = 4 << 20
# By the disk's clock. A process that still has the journal open after this time was stopped, or has nothing to append.
QUIET_S = 86400.0
_CHUNK_BYTES = 1 << 20


class Compressed(NamedTuple):
    """How many journals were compressed, and how many bytes that freed."""

    journals: int
    freed_bytes: int


def rotate_journal(jar: Jar, at_bytes: int | None = None) -> str | None:
    """Begin a new journal if the current one has grown large. Returns the name of the one that ended, or None.

    Raises LedgerError, OSError.
    """
    home = jar.ledger_home
    with home.locked():
        name = home.journal_name()
        try:
            size = os.stat(f"{jar.layout.journals}/{name}.jsonl").st_size
        except FileNotFoundError:
            return None
        if size < (ROTATE_BYTES if at_bytes is None else at_bytes):
            return None
        # COMMIT: from here this home's processes append to the next journal
        home.name_next_journal(home.following_journal(jar.layout, name))
    jar.journal.follow()
    return name


def compress_journals(jar: Jar, now: float) -> Compressed:
    """Compress this home's journals that were rotated and folded, and those of other homes of this node from before its last
    start. `now` is the disk's time. Raises OSError, LedgerError."""
    done = freed = 0
    current = jar.ledger_home.journal_name()
    base, _ = split_journal_name(current)
    for path in list_journals(jar.layout.journals):
        if path.endswith(".gz") and split_journal_name(journal_key(path).removesuffix(".jsonl"))[0] == base:
            _remove_stray(f"{jar.layout.journals}/{journal_key(path)}", now)
        name = os.path.basename(path).removesuffix(".jsonl")
        if path.endswith(".gz") or name == current:
            continue
        with contextlib.suppress(FileNotFoundError), passing_over(path):
            if split_journal_name(name)[0] != base and not _has_ended_with_its_home(jar, path, now):
                continue
            saved = _compress(jar, path, now)
            done += saved is not None
            freed += saved or 0
    return Compressed(done, freed)


def _has_ended_with_its_home(jar: Jar, path: str, now: float) -> bool:
    """Whether another home's journal belongs to this user and this node, and only to workers from before the node's last
    start."""
    name = os.path.basename(path).removesuffix(".jsonl")
    status = os.stat(path)
    is_ours = name.startswith(f"{node_name()}.") and status.st_uid == os.geteuid()
    if not is_ours or now - status.st_mtime < QUIET_S or _is_of_the_jar_s_own_home(jar, name):
        return False
    boots = set()
    with open(path, "rb", opener=open_regular) as file:
        for line in file:
            entry = parse_line(line.rstrip(b"\n")) if b'"boot_id"' in line else None
            if entry is not None and entry["entry"] == "worker" and entry.get("node") == node_name():
                boots.add(entry.get("boot_id"))
    return bool(boots) and not boots & {boot_id(), None}


def _is_of_the_jar_s_own_home(jar: Jar, name: str) -> bool:
    """Whether a journal belongs to the home inside the jar, which keeps its name for ever."""
    try:
        written = read_regular(f"{jar.layout.ledger}/writer").decode(errors="replace")
    except (FileNotFoundError, UnfitFile):
        return False
    return split_journal_name(written.partition(" ")[0].strip())[0] == split_journal_name(name)[0]


def _remove_stray(path: str, now: float) -> None:
    """Remove a journal that a stopped process made again, under a name that was compressed before the process went on. It has
    written the same entries to the current journal."""
    with contextlib.suppress(FileNotFoundError):
        if now - os.stat(path).st_mtime >= QUIET_S:
            os.unlink(path)


def _compress(jar: Jar, path: str, now: float) -> int | None:
    """Compress one journal. Returns the bytes saved, or None if it is too early, or if there is nothing to compress."""
    with open(path, "rb", buffering=0, opener=open_regular) as source:
        before = os.fstat(source.fileno())
        if now - before.st_mtime < QUIET_S:
            return None
        with jar.ledger.writing() as connection:
            fold_journal(connection, path)
            end = folded_until(connection, journal_key(path))
        if end == 0:
            return None
        final = compressed_path(path, end)
        _write_compressed(source.fileno(), before.st_size, path, final)
        after = os.fstat(source.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            os.unlink(final)  # a process appended late; X.jsonl counts as long as it exists
            return None
        # COMMIT: from here the compressed journal is the record
        os.unlink(path)
        remove_marks(jar.layout.journals, journal_key(path))
        late = [line.entry for line in read_journal(source.fileno(), before.st_size) if line.entry is not None]
    if late:
        # These were appended between the look and the removal. Their writer may append them again; folding twice is harmless.
        jar.journal.append(late, durable=True)
    for other in _others(path, final):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)
    return before.st_size - os.stat(final).st_size


def _write_compressed(descriptor: int, size: int, path: str, final: str) -> None:
    """Write the first `size` bytes of a journal to `final`, compressed: wholly or not at all. Raises OSError."""
    directory = os.path.dirname(path)
    temporary = temporary_path_of_node(f"{directory}/.{os.path.basename(final)}")
    try:
        with open(create_file(temporary, 0o600), "wb") as file:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                position = 0
                while position < size:
                    chunk = os.pread(descriptor, min(_CHUNK_BYTES, size - position), position)
                    if not chunk:
                        raise OSError(f"{path}: it has become shorter")
                    packed.write(chunk)
                    position += len(chunk)
            file.flush()
            os.fchmod(file.fileno(), os.fstat(descriptor).st_mode & 0o777)
            os.fsync(file.fileno())
        _check_compressed(temporary, descriptor, size)
        os.rename(temporary, final)
        sync_directory(directory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _check_compressed(temporary: str, descriptor: int, size: int) -> None:
    """Read the compressed file again and compare it, before the only other copy is removed. Raises OSError if it differs."""
    with gzip.open(temporary, "rb") as packed:
        position = 0
        while chunk := packed.read(_CHUNK_BYTES):
            if chunk != os.pread(descriptor, len(chunk), position):
                break
            position += len(chunk)
    if position != size:
        raise OSError(f"{temporary}: what was compressed does not read as what was written; the journal stays as it is")


def _others(path: str, final: str) -> list[str]:
    """Earlier compressed forms of the same journal, left by a night that was cut short."""
    directory, key = os.path.dirname(path), journal_key(path)
    names = (name for name in os.listdir(directory) if name.endswith(".gz") and name[0] != ".")
    return [f"{directory}/{name}" for name in names if journal_key(name) == key and f"{directory}/{name}" != final]


def sweep_half_compressed(jar: Jar) -> list[str]:
    """Remove half-compressed files that killed processes of this node left; returns their names."""
    return remove_leftovers(jar.layout.journals, r"\..*\.jsonl\.gz" + temporary_of_nodes())
