"""Pilots on PBS Professional and OpenPBS (14 and later): qsub, qstat, qselect, qdel.

`qstat -f -F json` has all that is known of a job; with `-x` of ended ones, too, where the server keeps their history. A job
that is known by its name alone is found by qselect. Formats: PBS Professional Reference Guide, "PBS Commands" (qsub, qstat,
qselect, qdel) and "Job States"; exit statuses: PBS Professional Administrator's Guide, "Job Exit Status Codes". Tested with a
stand-in. Writes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from jobjar.host import login
from jobjar.pilots import systems
from jobjar.pilots.systems import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    NODE_FAILED,
    RUNNING,
    TIMED_OUT,
    WAITING,
    Known,
    NoAnswer,
    NotSubmitted,
    Request,
    Seen,
)

_WAITS = {"Q": "queued", "H": "held", "W": "waits for its time", "T": "moves", "M": "moved"}
_ENDED = ("F", "X")
# 256 and the signal SIGTERM, as qdel sends it; JOB_EXEC_KILL_WALLTIME.
_BY_SIGNAL_15, _WALLTIME = 271, -29


class Pbs:
    name = "pbs"
    submits_with = "qsub"

    def refused_options(self, options: Sequence[str]) -> list[str]:
        return systems.find_options(options, "NJojrzI")

    def submit(self, request: Request) -> str:
        seconds = round(request.time_s)
        walltime = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        words = [
            "qsub",
            "-N",
            request.name,
            "-j",
            "oe",
            "-o",
            request.output_path,
            "-r",
            "n",
            "-l",
            f"walltime={walltime}",
        ]
        asked = [
            *([f"ncpus={request.cores}"] if request.cores else []),
            *([f"mem={request.memory_mib}mb"] if request.memory_mib else []),
            *([f"ngpus={request.gpus}"] if request.gpus else []),
        ]
        if asked:
            words += ["-l", f"select=1:{':'.join(asked)}"]
        answer = systems.ask([*words, *request.options, request.script_path], leave_out=_leave_out)
        id = answer.output.strip()
        if answer.status or not id[:1].isdecimal():
            raise NotSubmitted(answer.words)
        return id

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        ids = {pilot.id: pilot.name for pilot in pilots if pilot.id}
        for pilot in pilots:
            if not pilot.id:
                answer = systems.ask(["qselect", "-x", "-u", login(), "-N", pilot.name])
                if answer.status:
                    raise NoAnswer(answer.words)
                ids |= dict.fromkeys(answer.output.split(), pilot.name)
        if not ids:
            return {}
        answer = systems.ask(["qstat", "-x", "-f", "-F", "json", *ids])
        others = [line for line in answer.errors.splitlines() if line.strip() and "Unknown Job Id" not in line]
        if others:
            raise NoAnswer(answer.words)
        try:
            jobs: dict[str, Any] = json.loads(answer.output or "{}").get("Jobs", {})
        except ValueError as error:
            raise NoAnswer(f"qstat: {error}") from error
        return {ids[id]: _seen(id, job) for id, job in jobs.items() if id in ids}

    def cancel(self, id: str, is_running: bool) -> None:
        answer = systems.ask(["qdel", id])
        if answer.status and "Unknown Job Id" not in answer.errors and "finished" not in answer.errors:
            raise NoAnswer(answer.words)


def _leave_out(name: str) -> bool:
    return name.startswith("PBS_") and name not in ("PBS_SERVER", "PBS_CONF_FILE", "PBS_EXEC", "PBS_HOME")


def _seen(id: str, job: dict[str, Any]) -> Seen:
    word, comment = str(job.get("job_state", "")), str(job.get("comment", ""))
    node = os.path.basename(str(job.get("exec_host", "")).partition("/")[0])
    if word in _WAITS:
        return Seen(id, WAITING, word, comment or _WAITS[word], node)
    if word in _ENDED:
        status = job.get("Exit_status")
        end = CANCELLED if status in (None, _BY_SIGNAL_15) else FAILED
        if status == 0:
            end = FINISHED
        elif status == _WALLTIME:
            end = TIMED_OUT
        elif isinstance(status, int) and status < 0:
            end = NODE_FAILED
        return Seen(id, ENDED, word, f"exit status {status}", node, end)
    return Seen(id, RUNNING, word, comment, node)
