"""Settle what dead processes left: changes of batches, and jobs that came back to an aborted batch.

change.py makes the changes, and its words on crashes hold here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from jobjar.batches.change import is_aborted, let_go, read_change, settle, take_batch
from jobjar.batches.state import read_batch
from jobjar.batches.waiting_jobs import cancel_batch
from jobjar.errors import (
    BatchBusy,
    JarError,
    LedgerUnavailable,
    UnknownBatch,
)
from jobjar.jar import Jar
from jobjar.ledger.ask_batch_jobs import aborted_batches_with_waiting_jobs
from jobjar.ledger.fold import fold_journals
from jobjar.liveness import ALIVE, liveness
from jobjar.shared_disk.creating import (
    temporary_of_nodes,
)
from jobjar.shared_disk.files import rename
from jobjar.shared_disk.leftovers import find_leftovers
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.trees import remove_tree


def give_up(jar: Jar, name: str) -> bool:
    """Mark a batch's change, if there is one, so that it is settled like that of a dead process. A person said that the node of
    its process is gone for good. A process that lives all the same notices at its commit, and changes nothing. Returns whether
    there is such a change. Raises BatchBusy where the process is alive on this node."""
    change = read_change(jar, name)
    if change is None:
        return False
    if liveness(change.process) == ALIVE:
        raise BatchBusy(name=name, pid=change.process.pid, node=change.process.node)
    for held in change.batches:
        path = f"{jar.layout.batch(held).change}/{change.id}"
        with contextlib.suppress(FileNotFoundError):  # settled or given up already
            rename(f"{path}.json", f"{path}.given_up")
    return True


def settle_all(jar: Jar, log: Callable[[str], None]) -> None:
    """Recover all batches: settle their changes, and remove prepared directories of dead processes. Failures of single batches
    are logged. Raises LedgerUnavailable."""
    entries = sorted(list_directory(jar.layout.batches), key=lambda entry: entry.name)
    left = find_leftovers((entry.name for entry in entries), temporary_of_nodes(r"(?:\.new)?"))
    for entry in entries:
        if entry.name in left:
            remove_tree(entry.path)
        elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            with _logging_failures(entry.name, log):
                settle(jar, entry.name, log)


@contextlib.contextmanager
def _logging_failures(name: str, log: Callable[[str], None]) -> Iterator[None]:
    """Log a failure of one batch, so that the other batches, and the rest of a recovery, are still done."""
    try:
        yield
    except LedgerUnavailable:
        raise  # recovery repairs the ledger, and begins anew
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        log(f"batch {name}: it could not be settled: {where}{error.strerror}")
    except JarError as error:
        log(f"batch {name}: it could not be settled: {error}")


def cancel_returned(jar: Jar, log: Callable[[str], None]) -> None:
    """Cancel the jobs of aborted batches that came back: from a dead worker, from one that was just about to end, or by hand."""
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        aborted = aborted_batches_with_waiting_jobs(connection)
    for name in aborted:
        with _logging_failures(name, log), contextlib.suppress(BatchBusy, UnknownBatch):
            _cancel_returned_of(jar, name, log)


def _cancel_returned_of(jar: Jar, name: str, log: Callable[[str], None]) -> None:
    change = take_batch(jar, name)
    try:
        if read_batch(jar, name).is_aborted:
            count, _ = cancel_batch(jar, name, change.id, change.by, partial(is_aborted, jar, name), is_late=True)
            log(f"batch {name}: it is aborted; cancelled {count} jobs that had come back")
    finally:
        let_go(jar, change)
