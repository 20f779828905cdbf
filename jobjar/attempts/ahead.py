"""Decide which jobs a worker may take ahead of their turn, to stage them in while another job runs.

A job that is taken ahead waits for this worker alone, perhaps for hours. So it is taken only if it has something to stage in,
and if no idle worker asks for its category. The ledger names the workers that have not ended and hold no job. The files of
those few show whether they live, and what they ask for. Workers write nothing extra for this. Reads a job's file, the ledger
and the files of idle workers; writes only what folding writes.
"""

from __future__ import annotations

import os

from jobjar.attempts.attempt import DESCRIBED, Claimer
from jobjar.attempts.candidates import fold_others_if_due
from jobjar.attempts.passed_over import is_hand_made
from jobjar.errors import BadAttribute, LedgerError
from jobjar.hearing import has_beaten, read_heartbeat_ns
from jobjar.job_file.attributes import HEADER_BYTES, read_description, read_header
from jobjar.job_file.description import STORAGE_CATEGORY, has_staging
from jobjar.ledger.ask_claiming import Candidate, workers_without_jobs
from jobjar.liveness import ALIVE
from jobjar.roster import read_worker
from jobjar.shared_disk.files import read_file

# At most so many workers without a job are looked at, the newest first.
_MOST = 16


def may_be_taken_ahead(claimer: Claimer, candidate: Candidate, now: float) -> bool:
    """Whether a worker may claim a job that it cannot run yet. A job that waits to be stored has run, so this is always true
    for it. `now` is the disk's time."""
    if candidate.category.startswith(STORAGE_CATEGORY):
        return True
    return _has_staging(claimer, candidate) and find_idle(claimer, candidate.category, now) is None


def _has_staging(claimer: Claimer, candidate: Candidate) -> bool:
    """Whether a job's file asks for something to be staged in before it runs."""
    if candidate.kind != DESCRIBED and not is_hand_made(candidate):
        return False
    try:
        data = read_file(claimer.jar.layout.path(candidate.place), size=HEADER_BYTES)
        if read_header(data, candidate.place).get("kind") != DESCRIBED:
            return False
        return has_staging(read_description(data, candidate.place))
    except (OSError, BadAttribute):
        return False  # its claim reports what is wrong when its turn comes


def find_idle(claimer: Claimer, category: str, now: float, needed_s: float = 0.0) -> str | None:
    """The name of another worker that asks for a category, is idle, and has so much time left; None if none is known. `now` is
    the disk's time."""
    jar = claimer.jar
    try:
        with jar.ledger.writing(patience_s=0) as connection:
            fold_others_if_due(jar, connection, everything=jar.ledger.is_private)
            names = workers_without_jobs(connection, claimer.worker_id, _MOST)
        return next((name for name in names if _waits_for_jobs(claimer, name, category, now, needed_s)), None)
    except (LedgerError, OSError):
        return None  # the next look may find one


def _waits_for_jobs(claimer: Claimer, name: str, category: str, now: float, needed_s: float) -> bool:
    layout = claimer.jar.layout
    worker = read_worker(layout, name)
    if worker is None or not worker.is_running or not worker.asks_for(category) or worker.is_paused:
        return False
    if worker.ends_at is not None and worker.ends_at - now < needed_s:
        return False
    if os.path.lexists(worker.paths.stop_file) or os.path.lexists(layout.stop_all_file):
        return False
    if worker.alive == ALIVE:
        return True
    return has_beaten(worker, now - read_heartbeat_ns(worker.paths.heartbeat) / 1e9)
