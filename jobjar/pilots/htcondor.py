"""Pilots on HTCondor: condor_submit, condor_q, condor_rm, with a file system that all nodes share.

A pilot is a cluster of one job, with its name as JobBatchName. HTCondor starts a job again that it took from a node; a pilot is
removed instead. condor_q lists what waits, runs and is held; judge.py decides by the worker what became of the others. Formats:
HTCondor Manual, "Command Reference Manual" (condor_submit `-terse`, condor_q `-autoformat`) and "Job ClassAd Attributes"
(JobStatus). Tested with a stand-in. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobjar.pilots import systems
from jobjar.pilots.systems import (
    CANCELLED,
    ENDED,
    FINISHED,
    RUNNING,
    WAITING,
    Known,
    NoAnswer,
    NotSubmitted,
    Request,
    Seen,
)

# JobStatus: 1 idle, 2 running, 3 removed, 4 completed, 5 held, 6 transferring output, 7 suspended.
_IDLE, _REMOVED, _COMPLETED, _HELD = "1", "3", "4", "5"
_WORDS = {"1": "idle", "2": "running", "3": "removed", "4": "completed", "5": "held", "6": "running", "7": "suspended"}


class HTCondor:
    name = "htcondor"
    submits_with = "condor_submit"

    def refused_options(self, options: Sequence[str]) -> list[str]:
        refused = ("-batch-name", "-terse", "-spool", "-interactive", "-queue", "-dry-run", "-file")
        return [option for option in options if option in refused]

    def submit(self, request: Request) -> str:
        seconds = round(request.time_s)
        lines = [
            "universe = vanilla",
            f"executable = {request.script_path}",
            f"output = {request.output_path}",
            f"error = {request.output_path}",
            "should_transfer_files = NO",
            "kill_sig = SIGTERM",
            # It never begins a second time, and not longer than it may run.
            "periodic_remove = (JobStatus == 1 && NumJobStarts > 0) || "
            f"(JobStatus == 2 && time() - JobCurrentStartDate > {seconds})",
            *([f"request_cpus = {request.cores}"] if request.cores else []),
            *([f"request_memory = {request.memory_mib}"] if request.memory_mib else []),
            *([f"request_gpus = {request.gpus}"] if request.gpus else []),
            "queue 1",
        ]
        words = ["condor_submit", "-terse", "-batch-name", request.name, *request.options, "-"]
        answer = systems.ask(words, "\n".join(lines) + "\n")
        id = answer.output.strip().partition(" ")[0].partition(".")[0]
        if answer.status or not id.isdecimal():
            raise NotSubmitted(answer.words)
        return id

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        names = {pilot.name for pilot in pilots}
        wanted = f'stringListMember(JobBatchName, "{",".join(sorted(names))}")'
        columns = ("ClusterId", "JobStatus", "RemoteHost", "JobBatchName", "HoldReason")
        answer = systems.ask(["condor_q", "-constraint", wanted, "-af:t", *columns])
        if answer.status:
            raise NoAnswer(answer.words)
        found = {}
        for line in answer.output.splitlines():
            id, status, host, name, why = (line.split("\t", 4) + [""] * 4)[:5]
            if name in names:
                node = "" if host == "undefined" else host.partition("@")[2] or host
                found[name] = _seen(id, status, node, "" if why == "undefined" else why)
        return found

    def cancel(self, id: str, is_running: bool) -> None:
        answer = systems.ask(["condor_rm", id])
        if answer.status and "not found" not in answer.output + answer.errors:
            raise NoAnswer(answer.words)


def _seen(id: str, status: str, node: str, why: str) -> Seen:
    word = _WORDS.get(status, status)
    if status == _IDLE:
        return Seen(id, WAITING, word, "", node)
    if status == _HELD:
        return Seen(id, WAITING, word, why, node, never=True)
    if status in (_REMOVED, _COMPLETED):
        return Seen(id, ENDED, word, why, node, FINISHED if status == _COMPLETED else CANCELLED)
    return Seen(id, RUNNING, word, "", node)
