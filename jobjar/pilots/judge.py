"""What becomes of a pilot that is out: decided from what the batch system says of it, and from its worker.

The system alone is not believed: one that was asked in vain says nothing, one that knows a pilot no more may have forgotten it
(Slurm does after some minutes), and one whose daemon on a node died may call the node dead while the worker goes on. Reads the
pilot's output; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from jobjar.hearing import Hearing
from jobjar.liveness import ALIVE
from jobjar.pilots import systems
from jobjar.pilots.pilot import ENDED, INTENDED, RUNNING, WAITING, Pilot
from jobjar.pilots.systems import CANCELLED, FAILED, FINISHED, OF_THE_MACHINERY, TIMED_OUT, Seen
from jobjar.roster import WorkerState
from jobjar.shared_disk.regular import open_regular

# Ends that no system says: the submission was refused; its process died before it; it waited for
# what does not come; the system and its worker have both fallen silent.
REFUSED, LOST, UNFIT, GONE = "refused", "lost", "unfit", "gone"
# A pilot that a system does not list may be on its way into the list for so long.
LISTED_AFTER_S = 60.0
_TAIL_BYTES, _TAIL_LINES = 2000, 3


def judge_pilot(
    pilot: Pilot, seen: Seen | None, worker: WorkerState | None, hearing: Hearing, now: float, output: str
) -> Pilot:
    """What is known of an open pilot now. `seen` is what its system says, None if it does not list the pilot; `worker` is its
    worker, if that has begun; `now` is the disk's time, `output` the path of what it wrote."""
    if worker is not None:
        pilot = pilot.changed(worker=worker.name, worker_id=worker.worker_id)
    if seen is None:
        return _judge_unlisted(pilot, worker, hearing, now, output)
    known: dict[str, Any] = {
        "system_id": seen.id,
        "word": seen.word,
        "reason": seen.reason or None,
        "on_node": seen.node or pilot.on_node,
    }
    if pilot.state == INTENDED:
        known |= {"submitted_at": now, "message": None}  # what its submission said was wrong
    state = {systems.WAITING: WAITING, systems.RUNNING: RUNNING, systems.ENDED: ENDED}[seen.state]
    if state == ENDED:
        end = FINISHED if seen.end == FAILED and worker is not None and worker.ended else seen.end
        return _end(pilot.changed(**known), end, now, _explain_end(pilot, seen, output))
    if state == RUNNING and pilot.started_at is None:
        known["started_at"] = now
    if state != pilot.state:
        known |= {"state": state, "since": now}
    return pilot.changed(**known)


def _judge_unlisted(pilot: Pilot, worker: WorkerState | None, hearing: Hearing, now: float, output: str) -> Pilot:
    if worker is None:
        if pilot.message and pilot.state != INTENDED:
            return _end(pilot, CANCELLED, now, None)  # a turn has cancelled it
        if now - pilot.since < LISTED_AFTER_S and pilot.state != RUNNING:
            return pilot
        if pilot.state == INTENDED:
            if pilot.message:  # what was said when it was submitted
                return _end(pilot, REFUSED, now, None)
            return _end(pilot, LOST, now, "nobody submitted it")
        tail = read_tail(output)
        why = "the batch system does not know it any more, and no worker of it was seen"
        return _end(pilot, GONE, now, f"{why}: {tail}" if tail else why)
    if worker.ended:
        return _end(pilot, FINISHED, now, None)
    if worker.alive == ALIVE or (worker.is_running and hearing.beats(worker)):
        return pilot  # its worker lives: the system has only forgotten it
    return _end(pilot, GONE, now, f"the batch system does not know it any more, and its worker {worker.name} is silent")


def end_pilot(pilot: Pilot, reason: str, now: float, message: str | None) -> Pilot:
    """The same pilot, which has ended."""
    return _end(pilot, reason, now, message)


def _end(pilot: Pilot, reason: str, now: float, message: str | None) -> Pilot:
    return pilot.changed(state=ENDED, since=now, ended_at=now, end_reason=reason, message=pilot.message or message)


def _explain_end(pilot: Pilot, seen: Seen, output: str) -> str | None:
    """For people: why, and of a pilot without a worker the system's word and the last lines that it wrote."""
    if seen.end in OF_THE_MACHINERY:
        return seen.reason or None
    if pilot.worker is not None:
        return None
    tail = read_tail(output)
    why = f"{seen.word} {seen.reason}".strip()
    return f"{why}: {tail}" if tail else why


def read_tail(path: str) -> str:
    """The last lines of a file, on one line; empty if there is none."""
    with contextlib.suppress(OSError):
        descriptor = open_regular(path)
        try:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        finally:
            os.close(descriptor)
        lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
        return systems.shorten(" / ".join(lines[-_TAIL_LINES:]))
    return ""


def is_failure(pilot: Pilot) -> bool:
    """Whether an ended pilot was no use for a reason that the next one may well share: it was refused, or never got as far as a
    worker. What the machinery does to a pilot that waits, or a person, does not count."""
    if pilot.end_reason in (REFUSED, UNFIT):
        return True
    return pilot.worker is None and pilot.end_reason in (FAILED, FINISHED, GONE, TIMED_OUT)


def was_of_use(pilot: Pilot) -> bool:
    """Whether a pilot has got as far as a worker."""
    return pilot.worker is not None


def explain_pilot_end(pilot: Pilot) -> str:
    """How a pilot ended, in a few words."""
    words = {
        CANCELLED: "was cancelled",
        TIMED_OUT: "ran out of time",
        REFUSED: "was refused",
        LOST: "was lost",
        UNFIT: "can never run",
        GONE: "is gone",
    }
    text = words.get(pilot.end_reason or "", (pilot.end_reason or "ended").replace("_", " "))
    return f"{text}: {pilot.message}" if pilot.message else text
