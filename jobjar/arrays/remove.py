"""Remove the files of arrays whose chunks were all deleted: what their tasks ran, their entries, their batches.

COMMIT: `batch.json` is removed. After a kill before that the array is whole; after it recovery removes the rest, as that of a
batch that was never committed. The ledger keeps what it knows of the tasks.
"""

from __future__ import annotations

from jobjar.batches.change import give_back, take_batch
from jobjar.errors import BatchBusy, UnknownBatch
from jobjar.jar import Jar
from jobjar.ledger.ask_nightly import arrays_without_files
from jobjar.ledger.fold import fold_journals
from jobjar.shared_disk.files import look, remove_file


def remove_arrays(jar: Jar, ended_before: float) -> int:
    """Remove the arrays of which no chunk is left, and no task ended since this time of the disk's clock; returns how many.
    Raises OSError, LedgerError."""
    return sum(_remove(jar, uid, ended_before) for uid in _find(jar, ended_before))


def _find(jar: Jar, ended_before: float) -> list[str]:
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        found = arrays_without_files(connection, ended_before)
    return [uid for uid in found if look(jar.layout.batch(uid).file) is not None]


def _remove(jar: Jar, uid: str, ended_before: float) -> bool:
    try:
        change = take_batch(jar, uid)
    except (BatchBusy, UnknownBatch):
        return False  # somebody retries it just now, or another night has removed it
    try:
        if uid not in _find(jar, ended_before):
            return False
        # COMMIT: from here there is no such array
        remove_file(jar.layout.batch(uid).file)
        return True
    finally:
        give_back(jar, change)
