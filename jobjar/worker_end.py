"""The end of a worker, however it came, in the journal and in its worker.json. Killed between, the journal has it."""

from __future__ import annotations

import contextlib
import json

from jobjar.contents import WORKER, Unreadable, read_document
from jobjar.control import WorkerState
from jobjar.disk import replace_file
from jobjar.jar import Jar


def note_end(jar: Jar, worker: WorkerState, ended_at: float, reason: str) -> None:
    """Record a worker's end in the journal and in its worker.json. Raises OSError."""
    jar.journal.append(
        [
            {
                "entry": "worker",
                "worker": worker.name,
                "worker_uid": worker.worker_id,
                "node": worker.process.node,
                "pid": worker.process.pid,
                "ended_at": ended_at,
                "end_reason": reason,
            }
        ]
    )
    with contextlib.suppress(Unreadable):  # damaged since it was read: the journal has it
        data = read_document(worker.paths.identity_file, WORKER)
        data.update({"ended_at": ended_at, "end_reason": reason})
        replace_file(worker.paths.identity_file, (json.dumps(data, indent=1) + "\n").encode())
