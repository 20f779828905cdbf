"""The nightly job: recover, archive, rotate, checkpoint, check, copy; and report what was done.

The steps are independent: one that fails is reported, and the others are still done. One node at a time archives, because that
concerns the whole jar. One process at a time does the steps for a ledger home. The module of each step says what a crash inside
it leaves; the next night repairs that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from jobjar.access.refusals import name_refusal
from jobjar.attempts.on_end import tell_recovered
from jobjar.errors import JarError, LedgerCorrupt
from jobjar.jar import Jar
from jobjar.ledger.ask_nightly import checkpoint
from jobjar.ledger.dated_copies import make_dated_copy, sweep_copies
from jobjar.ledger.rebuild import fill_ledger
from jobjar.ledger.snapshot import publish_snapshot
from jobjar.ledger.store import check_database
from jobjar.nightly.archive import date_of, keep_in_order
from jobjar.nightly.executors import sweep_executors
from jobjar.nightly.rotation import compress_journals, rotate_journal, sweep_half_compressed
from jobjar.recovery.recover import recover_node
from jobjar.shared_disk.files import open_common_file
from jobjar.shared_disk.locks import try_lock

Step = Callable[[Jar, "Night"], None]


class Night:
    """What was done, in lines for people. `mattered`: some of it is worth a person's attention."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.mattered = False
        self.now = 0.0

    def log(self, line: str, matters: bool = False) -> None:
        self.lines.append(line)
        self.mattered = self.mattered or matters

    def warn(self, line: str) -> None:
        self.warnings.append(line)
        self.mattered = True


def run_nightly(jar: Jar) -> Night:
    """Do all steps. What goes wrong is among the warnings. Raises LedgerUnavailable, CannotUseJar if there is no ledger home to
    work in."""
    night = Night()
    night.now = jar.disk_now()
    _try_step(jar, night, "recovery", _recover)
    _try_step(jar, night, "archive", _archive)
    with _alone(jar) as is_alone:
        if is_alone:
            _try_step(jar, night, "left-overs", _sweep)
            _try_step(jar, night, "journals", _rotate)
            _try_step(jar, night, "checkpoint", _checkpoint)
            # Check before the copy, so that no copy of a damaged ledger replaces a sound one.
            if _try_step(jar, night, "quick_check", _check):
                _try_step(jar, night, "copy", _copy)
            _try_step(jar, night, "snapshot", _publish)
        else:
            night.log(f"{jar.ledger_home.path}: another nightly job is at work there")
    return night


def _try_step(jar: Jar, night: Night, name: str, step: Step) -> bool:
    """Do one step; returns whether it succeeded. If the ledger is damaged, it is rebuilt, and the step is done again."""

    def log(line: str) -> None:
        night.warn(line)

    try:
        jar.ledger.repaired(lambda: step(jar, night), fill_ledger, log)
        return True
    except JarError as error:
        night.warn(f"{name}: {error}")
    except OSError as error:
        night.warn(f"{name}: {name_refusal(error)}. Check the disk and the permissions")
    return False


@contextlib.contextmanager
def _alone(jar: Jar) -> Iterator[bool]:
    """Yield whether no other nightly job works on this home. The lock lies in the home, which is on a local disk or belongs to
    one host."""
    descriptor = open_common_file(jar.ledger_home.nightly_lock, os.O_RDWR)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _recover(jar: Jar, night: Night) -> None:
    recovery = recover_node(jar)
    for line in recovery.lines:
        night.log(line, matters=True)
    for line in recovery.notes:
        night.log(line)
    night.log(f"recovery: {recovery.returned} jobs returned, {recovery.completed} completed")
    tell_recovered(jar, recovery.completed_jobs, recovery.by, night.log)


def _archive(jar: Jar, night: Night) -> None:
    kept = keep_in_order(jar, night.now)
    if kept.skipped:
        night.log("archive: another node is at it, or was stopped at it within ten minutes")
        return
    archived = kept.archived_jobs + kept.archived_workers
    deleted = kept.deleted_jobs + kept.deleted_workers
    night.log(
        f"archive: {kept.archived_jobs} jobs and {kept.archived_workers} workers archived, "
        f"{kept.deleted_jobs} jobs and {kept.deleted_workers} workers deleted",
        matters=archived + deleted > 0,
    )
    for line in kept.stays:
        night.log(f"archive: {line}", matters=True)


def _sweep(jar: Jar, night: Night) -> None:
    for name in sweep_half_compressed(jar) + sweep_copies(jar.ledger):
        night.log(f"removed the half-written {name}", matters=True)
    sweep_executors(jar, night.now, night.log)


def _rotate(jar: Jar, night: Night) -> None:
    ended = rotate_journal(jar)
    packed = compress_journals(jar, night.now)
    rotated = f"{ended} ended, a new one begun; " if ended else ""
    night.log(
        f"journals: {rotated}{packed.journals} compressed, {packed.freed_bytes} bytes freed",
        matters=packed.journals > 0,
    )


def _checkpoint(jar: Jar, night: Night) -> None:
    with jar.ledger_home.locked(), jar.ledger.errors_named():
        jar.ledger.ensure_open()
        is_whole = checkpoint(jar.ledger.connection)
    night.log(f"checkpoint: {'done' if is_whole else 'in part; somebody reads the ledger'}")


def _check(jar: Jar, night: Night) -> None:
    path = jar.ledger_home.database
    try:
        check_database(path)
    except LedgerCorrupt:
        with jar.ledger.writing():  # a database that was just replaced, or is not made yet, is not damaged
            check_database(path)
    night.log("quick_check: ok")


def _copy(jar: Jar, night: Night) -> None:
    path = make_dated_copy(jar.ledger, date_of(night.now))
    night.log(f"copy: {path}, {os.stat(path).st_size} bytes")


def _publish(jar: Jar, night: Night) -> None:
    if publish_snapshot(jar.ledger, 0.0):
        night.log(f"snapshot: {jar.layout.snapshot}")
