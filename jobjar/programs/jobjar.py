"""jobjar: every program under one name, and what has no program of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from jobjar.programs.utf8 import begin

VERBS: dict[str, str] = {
    "init": "make a jar",
    "config": "print every setting, its value and where it comes from",
    "submit": "submit a job as it is typed, in the directory where it is typed",
    "submit_job": "submit a job: words joined by spaces, in a fresh directory",
    "submit_batch": "submit batches of described jobs",
    "batch_edit": "change a batch",
    "abort_batch": "cancel what waits of a batch and kill what runs",
    "unique_job_name": "print a new job name in limbo",
    "start_worker": "start a worker on this node",
    "stop_worker": "stop workers",
    "pause_worker": "pause workers",
    "unpause_worker": "let paused workers go on",
    "check_workers": "start the workers that are missing on this node",
    "recover_jobs": "take back the jobs of dead workers",
    "system_status": "print what the jar is doing",
    "batch_status": "print how far batches are",
    "workload_limit": "set how many jobs of a category may run at once",
    "list": "list jobs: running, held, waiting, ended",
    "show": "print all that is known of a job",
    "history": "print what happened to a job, one line an event",
    "workers": "print the workers, one line each",
    "output": "print a job's output",
    "list_outputs": "print where output files are stored",
    "get_output": "copy a stored output file from where it is stored",
    "wait": "wait until jobs have ended",
    "cancel": "cancel jobs that wait, are held, or run",
    "retry": "run ended jobs again",
    "remove": "remove ended jobs",
    "hold": "hold waiting jobs",
    "release": "let held jobs wait again",
    "priority": "give waiting and held jobs another priority",
    "move": "put waiting and held jobs into another category",
    "kill": "kill running jobs",
    "check": "compare the ledger, the journals and the directories",
    "rebuild": "make the ledger anew",
    "doctor": "look at this node, and at a pair of nodes, for what endangers jobs",
}


# These close what they opened. A cleanup of the interpreter would take a noticeable part of their time.
_OVER_AT_ONCE = ("submit", "submit_job")


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {text}" for verb, text in VERBS.items()]
    return "usage: jobjar VERB [OPTION…] [WORD…]\n\n" + "\n".join(lines) + "\n\n`jobjar VERB --help` says more of each."


def main(argv: Sequence[str] | None = None, program_path: str | None = None) -> int:
    begin(is_program=argv is None)
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(usage(), file=sys.stderr)
        return 2
    if words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from jobjar.version import VERSION

        print(f"Job Jar {VERSION}")
        return 0
    verb = words[0].replace("-", "_")
    if verb not in VERBS:
        print(f"jobjar: there is no verb {words[0]!r}; `jobjar help` lists them", file=sys.stderr)
        return 2
    module = importlib.import_module(f"jobjar.programs.{verb}")
    status = int(module.main(words[1:], program_path, program=f"jobjar {verb}"))
    if argv is None and verb in _OVER_AT_ONCE:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # as the program of this name does (`run_and_exit_at_once` in command.py)
    return status
