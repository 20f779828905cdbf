"""Rotate and compress this home's journals, so that what was folded long ago takes little room.

A rotation gives the home's `writer` file another name (`rain.1a2b3c4d`, then `rain.1a2b3c4d-2` …). The old journal keeps its
name and its content, and just ends: processes that have it open follow within a second of their next look (journal/append.py),
and what one of them appends late is folded as ever. A journal that has ended, that nobody appended to for a day and
that this home has folded to its end is compressed: a temporary name, fsync, read again, rename to
`X.<end>.jsonl.gz`, and only then is `X.jsonl` removed.

The same is done to what lost homes of this node wrote, where it can be proved that nobody will append to it: the node has been
started again since (a home outside of its jar then takes another name, home.py), as the boot id tells that workers
journal when they start.

Killed between the two, both are there, with the same content; readers take `X.jsonl`, and the next night compresses again.
Killed earlier, a temporary file stays, which the next night removes.
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
from jobjar.ledger.ask_nightly import folded_until
from jobjar.ledger.fold import fold_journal
from jobjar.ledger.home import split_journal_name
from jobjar.liveness import boot_id, own_nodes
from jobjar.shared_disk.creating import TEMPORARY, create_file, temporary_path
from jobjar.shared_disk.files import sync_directory
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.regular import UnfitFile, open_regular, passing_over, read_regular

# A journal that is smaller than this is not worth a file of its own.
ROTATE_BYTES = 4 << 20
# By the disk's clock. A process that still has the journal open after that was stopped, or has nothing to append.
QUIET_S = 86400.0
_CHUNK_BYTES = 1 << 20


class Compressed(NamedTuple):
    """How many journals were compressed, and how many bytes the disk got back."""

    journals: int
    freed_bytes: int


def rotate_journal(jar: Jar, at_bytes: int | None = None) -> str | None:
    """Begin a new journal where the current one has grown large; returns the name of the one that ended, or None.

    Raises LedgerBusy, LedgerUnavailable, OSError.
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
    """Compress what this home wrote, rotated away and folded, and what other homes of this node wrote before its last start.
    `now` is the disk's time. Raises OSError, LedgerBusy, LedgerUnavailable."""
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
    """Whether another home's journal is of this user and this node, and of workers of earlier starts of the node alone."""
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
    """Whether a journal is that of the home in the jar, which keeps its name for ever."""
    try:
        written = read_regular(f"{jar.layout.ledger}/writer").decode(errors="replace")
    except (FileNotFoundError, UnfitFile):
        return False
    return split_journal_name(written.partition(" ")[0].strip())[0] == split_journal_name(name)[0]


def _remove_stray(path: str, now: float) -> None:
    """Remove what a process that was stopped made under the name of a journal that was compressed before it went on. It
    has written the same to the current one."""
    with contextlib.suppress(FileNotFoundError):
        if now - os.stat(path).st_mtime >= QUIET_S:
            os.unlink(path)


def _compress(jar: Jar, path: str, now: float) -> int | None:
    """Compress one journal; returns the bytes saved, or None where it is not to be (yet)."""
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
            os.unlink(final)  # somebody was late; X.jsonl is what counts as long as it is there
            return None
        # COMMIT: from here the compressed journal is the record
        os.unlink(path)
        remove_marks(jar.layout.journals, journal_key(path))
        late = [line.entry for line in read_journal(source.fileno(), before.st_size) if line.entry is not None]
    if late:
        # Appended between the look and the removal. Whoever did that may append it again; folding it twice is as once.
        jar.journal.append(late, durable=True)
    for other in _others(path, final):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)
    return before.st_size - os.stat(final).st_size


def _write_compressed(descriptor: int, size: int, path: str, final: str) -> None:
    """Write the first `size` bytes of a journal to `final`, compressed, whole or not at all. Raises OSError."""
    directory = os.path.dirname(path)
    temporary = temporary_path(f"{directory}/.{os.path.basename(final)}.{node_name()}")
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
    """Read it again before the only other copy goes. Raises OSError."""
    with gzip.open(temporary, "rb") as packed:
        position = 0
        while chunk := packed.read(_CHUNK_BYTES):
            if chunk != os.pread(descriptor, len(chunk), position):
                break
            position += len(chunk)
    if position != size:
        raise OSError(f"{temporary}: what was compressed does not read as what was written; the journal stays as it is")


def _others(path: str, final: str) -> list[str]:
    """Earlier compressed forms of the same journal, from a night that was cut short."""
    directory, key = os.path.dirname(path), journal_key(path)
    names = (name for name in os.listdir(directory) if name.endswith(".gz") and name[0] != ".")
    return [f"{directory}/{name}" for name in names if journal_key(name) == key and f"{directory}/{name}" != final]


def sweep_half_compressed(jar: Jar) -> list[str]:
    """Remove what killed processes of this node left half-compressed; returns the names."""
    return remove_leftovers(jar.layout.journals, rf"\..*\.jsonl\.gz\.{own_nodes()}" + TEMPORARY)
