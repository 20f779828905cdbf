"""Pilots on IBM Spectrum LSF (10): bsub, bjobs, bkill.

bjobs lists jobs by name, ended ones too for CLEAN_PERIOD (an hour). A job whose host does not answer is UNKWN: that says
nothing of its worker. Formats: IBM Spectrum LSF Command Reference, bsub ("Output"), bjobs (`-o`, `-noheader`, "Job states",
exit_reason), bkill. Tested with a stand-in. Writes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from jobjar.pilots import systems
from jobjar.pilots.systems import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    PREEMPTED,
    RUNNING,
    TIMED_OUT,
    WAITING,
    Known,
    NoAnswer,
    NotSubmitted,
    Request,
    Seen,
)

_SUBMITTED = re.compile(r"Job <([0-9]+)> is submitted to ")
_REASONS = {
    "TERM_RUNLIMIT": TIMED_OUT,
    "TERM_DEADLINE": TIMED_OUT,
    "TERM_WINDOW": TIMED_OUT,
    "TERM_OWNER": CANCELLED,
    "TERM_ADMIN": CANCELLED,
    "TERM_FORCE_OWNER": CANCELLED,
    "TERM_FORCE_ADMIN": CANCELLED,
    "TERM_PREEMPT": PREEMPTED,
    "TERM_REQUEUE_OWNER": CANCELLED,
    "TERM_REQUEUE_ADMIN": CANCELLED,
}
_COLUMNS = "jobid stat exec_host job_name exit_reason pend_reason delimiter='|'"


class Lsf:
    name = "lsf"
    submits_with = "bsub"

    def refused_options(self, options: Sequence[str]) -> list[str]:
        return [option for option in options if option in ("-J", "-o", "-oo", "-e", "-eo", "-r", "-I", "-K", "-W")]

    def submit(self, request: Request) -> str:
        words = ["bsub", "-J", request.name, "-o", request.output_path, "-rn", "-env", "none"]
        words += ["-W", str(max(1, math.ceil(request.time_s / 60)))]
        if request.cores:
            words += ["-n", str(request.cores), "-R", "span[hosts=1]"]
        if request.memory_mib:
            words += ["-M", f"{request.memory_mib}MB"]
        if request.gpus:
            words += ["-gpu", f"num={request.gpus}"]
        answer = systems.ask([*words, *request.options, request.script_path])
        found = _SUBMITTED.search(answer.output)
        if answer.status or found is None:
            raise NotSubmitted(answer.words)
        return found.group(1)

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        names = {pilot.name for pilot in pilots}
        answer = systems.ask(["bjobs", "-a", "-noheader", "-o", _COLUMNS, "-J", "jj*"])
        if answer.status and "not found" not in answer.errors and "No " not in answer.errors:
            raise NoAnswer(answer.words)
        found = {}
        for line in answer.output.splitlines():
            id, word, host, name, exit_reason, why = (line.split("|", 5) + [""] * 5)[:6]
            if name in names:
                found[name] = _seen(id, word, "" if host == "-" else host, exit_reason, "" if why == "-" else why)
        return found

    def cancel(self, id: str, is_running: bool) -> None:
        # To a running one TERM alone, so that its worker has the time to give its jobs back.
        answer = systems.ask(["bkill", "-s", "TERM", id] if is_running else ["bkill", id])
        if answer.status and "already finished" not in answer.errors + answer.output:
            raise NoAnswer(answer.words)


def _seen(id: str, word: str, node: str, exit_reason: str, why: str) -> Seen:
    if word in ("PEND", "PSUSP"):
        return Seen(id, WAITING, word, why, node)
    if word == "DONE":
        return Seen(id, ENDED, word, "", node, FINISHED)
    if word == "EXIT":
        reason = exit_reason.partition(":")[0].strip()
        return Seen(id, ENDED, word, "" if exit_reason == "-" else exit_reason, node, _REASONS.get(reason, FAILED))
    return Seen(id, RUNNING, word, "", node)
