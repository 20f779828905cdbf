"""Pilots on Slurm: sbatch, squeue, scancel. Tested with a real Slurm 22.05.

sbatch may fail and have submitted all the same: where its controller hangs, it gives up after ten seconds. So a submission that
failed is looked up by its name. squeue lists an ended job for MinJobAge (300 s by default). Writes nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from jobjar.pilots import systems
from jobjar.pilots.systems import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    NODE_FAILED,
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

_ENDS = {
    "COMPLETED": FINISHED,
    "CANCELLED": CANCELLED,
    "TIMEOUT": TIMED_OUT,
    "DEADLINE": TIMED_OUT,
    "NODE_FAIL": NODE_FAILED,
    "BOOT_FAIL": NODE_FAILED,
    "PREEMPTED": PREEMPTED,
    "REVOKED": CANCELLED,
    "FAILED": FAILED,
    "OUT_OF_MEMORY": FAILED,
}
_WAITS = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
# Reasons to wait that waiting does not change: what is asked for is more than there can be, or not allowed.
_NEVER = {
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "QOSNotAllowed",
    "AccountNotAllowed",
    "DependencyNeverSatisfied",
    "JobHeldAdmin",
    "JobHeldUser",
    "QOSTimeLimit",
    "AssocMaxWallDurationPerJobLimit",
    "QOSMaxWallDurationPerJobLimit",
}
_NAMES_AT_ONCE = 100


def _leave_out(name: str) -> bool:
    """Variables of a job that this process may be part of, and those that would make something else of the submission."""
    if name == "SLURM_CONF":
        return False
    return name.startswith("SLURM_") or name in (
        "SBATCH_ARRAY_INX",
        "SBATCH_REQUEUE",
        "SBATCH_WAIT",
        "SBATCH_TEST_ONLY",
    )


class Slurm:
    name = "slurm"
    submits_with = "sbatch"

    def refused_options(self, options: Sequence[str]) -> list[str]:
        names = (
            "--job-name",
            "--array",
            "--output",
            "--wrap",
            "--requeue",
            "--parsable",
            "--signal",
            "--time",
            "--wait",
        )
        return systems.find_options(options, "JaotW", names)

    def submit(self, request: Request) -> str:
        words = [
            "sbatch",
            "--parsable",
            f"--job-name={request.name}",
            f"--comment={request.name}",
            f"--output={request.output_path}",
            "--open-mode=append",
            f"--chdir={os.path.dirname(request.output_path)}",
            "--no-requeue",
            f"--signal=B:TERM@{round(request.warning_s)}",
            f"--time={max(1, math.ceil(request.time_s / 60))}",
            # The script sets by name what it needs. What else the node gives its users stays.
            "--export=NONE",
        ]
        if request.cores:
            words.append(f"--cpus-per-task={request.cores}")
        if request.memory_mib:
            words.append(f"--mem={request.memory_mib}M")
        if request.gpus:
            words.append(f"--gres=gpu:{request.gpus}")
        answer = systems.ask([*words, *request.options, request.script_path], leave_out=_leave_out)
        id = answer.output.strip().partition(";")[0]
        if answer.status or not id.isdecimal():
            raise NotSubmitted(answer.words)
        return id

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        for first in range(0, len(pilots), _NAMES_AT_ONCE):
            names = [pilot.name for pilot in pilots[first : first + _NAMES_AT_ONCE]]
            words = ["squeue", "-h", "-r", f"--name={','.join(names)}", "-t", "all", "-o", "%i|%T|%r|%N|%j"]
            answer = systems.ask(words, leave_out=_leave_out)
            # Without its controller squeue may exit 0, too, and complain.
            if answer.status or "error" in answer.errors:
                raise NoAnswer(answer.words)
            for line in answer.output.splitlines():
                id, word, reason, node, name = (line.split("|", 4) + [""] * 4)[:5]
                if name in names:
                    found[name] = _seen(id, word, "" if reason == "None" else reason, node)
        return found

    def cancel(self, id: str, is_running: bool) -> None:
        # To the script's own process alone, which is the worker by then: it gives its jobs back.
        words = ["scancel", "-b", "-s", "TERM", id] if is_running else ["scancel", id]
        answer = systems.ask(words, leave_out=_leave_out)
        if answer.status:
            raise NoAnswer(answer.words)


def _seen(id: str, word: str, reason: str, node: str) -> Seen:
    if word in _ENDS:
        return Seen(id, ENDED, word, reason, node, _ENDS[word])
    if word in _WAITS:
        return Seen(id, WAITING, word, reason, node, never=reason in _NEVER or word in ("REQUEUE_HOLD", "SPECIAL_EXIT"))
    return Seen(id, RUNNING, word, reason, node)
