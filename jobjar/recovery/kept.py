"""Report what recovery cannot remove because a job left something mounted there: one line in the log, one warning of the job.

Writes the journal. The ledger has an attempt's warnings. So a later recovery, which tries again, does not report them twice.
After a kill before the warning is journaled, the next recovery reports it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from jobjar.jar import Jar
from jobjar.journal.entries import About, warned_late_entry
from jobjar.ledger.ask_claiming import attempt_of_worker, has_warning, uid_of_scratch, worker_of_attempt
from jobjar.ledger.fold import fold_journals
from jobjar.roster import WorkerState
from jobjar.shared_disk.trees import Kept

_UNDERWAY = re.compile(r"([0-9]{1,9})\.([0-9A-Za-z]+)")


def journal_kept(jar: Jar, about: About, kept: list[Kept], log: Callable[[str], None]) -> None:
    """Log what stays of an attempt, and journal it as warnings of the job, unless that was done before. The worker's name is
    that of the journaled attempt."""
    if not kept:
        return
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        known = (about.job, about.attempt, about.worker_uid)
        about = about._replace(worker=worker_of_attempt(connection, *known) or "")
        new = [text for text in map(str, kept) if not has_warning(connection, *known, text)]
        jar.journal.append([warned_late_entry(about, text) for text in new])
        fold_journals(connection, jar.layout)
    for text in new:
        log(text)


def journal_kept_scratch(
    jar: Jar, worker: WorkerState, name: str, kept: list[Kept], log: Callable[[str], None]
) -> None:
    """`journal_kept` for the directory of this name in a dead worker's scratch/."""
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        uid = uid_of_scratch(connection, name, worker.worker_id)
        attempt = None if uid is None else attempt_of_worker(connection, uid, worker.worker_id)
    if uid is not None and attempt is not None:
        journal_kept(jar, worker.about(uid, attempt.number), kept, log)
    elif not worker.ended:  # no job is known; the recovery that notes the death logs it, later ones do not
        for each in kept:
            log(str(each))


def journal_kept_underway(jar: Jar, uid: str, kept: list[Kept], log: Callable[[str], None]) -> None:
    """`journal_kept` for the directories of a job's attempts below underway/."""
    base = f"{jar.layout.underway}/{uid}/"
    for each in kept:
        found = _UNDERWAY.match(each.path.removeprefix(base).partition(os.sep)[0])
        if found:
            journal_kept(jar, About(uid, int(found.group(1)), "", found.group(2)), [each], log)
