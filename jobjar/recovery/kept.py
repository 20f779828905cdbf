"""What recovery cannot remove, because a job left something mounted there: said once, and a warning of its job.

Writes the journal. What an attempt was warned of is in the ledger: by that a later recovery, which tries again, knows that it was
said. Killed before the warning is journaled, the next recovery says it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from jobjar.attempts.attempt import late_warning
from jobjar.jar import Jar
from jobjar.ledger.ask_claiming import attempt_of_worker, is_warned_of, uid_of_scratch, worker_of_attempt
from jobjar.ledger.fold import fold_journals
from jobjar.roster import WorkerState
from jobjar.shared_disk.trees import Kept

_UNDERWAY = re.compile(r"([0-9]{1,9})\.([0-9A-Za-z]+)")


def tell_kept(jar: Jar, uid: str, attempt: int, worker_uid: str, kept: list[Kept], log: Callable[[str], None]) -> None:
    """Say what stays of an attempt, and have it be a warning of its job, unless both was done before."""
    if not kept:
        return
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        worker = worker_of_attempt(connection, uid, attempt, worker_uid) or ""
        new = [text for text in map(str, kept) if not is_warned_of(connection, uid, attempt, worker_uid, text)]
        jar.journal.append([late_warning(uid, attempt, worker, worker_uid, text) for text in new])
        fold_journals(connection, jar.layout)
    for text in new:
        log(text)


def tell_kept_scratch(jar: Jar, worker: WorkerState, name: str, kept: list[Kept], log: Callable[[str], None]) -> None:
    """`tell_kept` of a directory of this name that lies in a dead worker's scratch/."""
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        uid = uid_of_scratch(connection, name, worker.worker_id)
        attempt = None if uid is None else attempt_of_worker(connection, uid, worker.worker_id)
    if uid is not None and attempt is not None:
        tell_kept(jar, uid, attempt.number, worker.worker_id, kept, log)
    elif not worker.ended:  # no job to warn: said by the recovery that notes the death
        for each in kept:
            log(str(each))


def tell_kept_underway(jar: Jar, uid: str, kept: list[Kept], log: Callable[[str], None]) -> None:
    """`tell_kept` of what lies below underway/, in the directories of a job's attempts."""
    base = f"{jar.layout.underway}/{uid}/"
    for each in kept:
        found = _UNDERWAY.match(each.path.removeprefix(base).partition(os.sep)[0])
        if found:
            tell_kept(jar, uid, int(found.group(1)), found.group(2), [each], log)
