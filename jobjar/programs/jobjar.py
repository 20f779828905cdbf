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
    "map": "run a command for each of many arguments, and print what they write",
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
    "pilots": "have workers submitted into a batch system where jobs wait",
    "check_pilots": "submit the pilots that waiting jobs need, and look what became of others",
    "recover_jobs": "take back the jobs of dead workers",
    "system_status": "print what the jar is doing",
    "batch_status": "print how far batches are",
    "workload_limit": "set how many jobs of a category may run at once",
    "list": "list jobs: running, held, dependent, waiting, ended",
    "show": "print all that is known of a job",
    "explain": "say why jobs wait, where they run or how they ended, and what to do",
    "history": "print what happened to a job, one line an event",
    "worker_setup": "keep named setups of workers",
    "make_worker": "write one file that is a worker, for nodes where nothing is installed",
    "workers": "print the workers, one line each",
    "output": "print a job's output",
    "list_outputs": "print where output files are stored",
    "get_output": "copy a stored output file from where it is stored",
    "wait": "wait until jobs have ended",
    "top": "show what the jar is doing, its workers and its jobs, on the whole terminal",
    "stats": "print what jobs take: waiting and run time, processor time, memory",
    "web": "show the jar in a browser",
    "report": "write a report of the jar, or of a batch, as one file",
    "metrics": "print what the jar is doing as numbers for Prometheus",
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
    "completion": "print what a shell needs to complete words",
    "doctor": "look at this node, and at a pair of nodes, for what endangers jobs",
}


# The groups in which people look for a verb. One that is in none of them is listed at the end.
GROUPS: dict[str, tuple[str, ...]] = {
    "Submit": ("submit", "map", "submit_job", "submit_batch", "unique_job_name"),
    "Steer": (
        *("cancel", "kill", "hold", "release", "retry", "priority", "move", "remove"),
        *("batch_edit", "abort_batch", "workload_limit"),
    ),
    "See": (
        *("list", "show", "explain", "history", "output", "wait", "stats", "top"),
        *("system_status", "batch_status", "list_outputs", "get_output", "web", "report", "metrics"),
    ),
    "Workers": (
        *(
            "start_worker",
            "stop_worker",
            "pause_worker",
            "unpause_worker",
            "check_workers",
            "worker_setup",
            "make_worker",
        ),
        *("workers", "pilots", "check_pilots"),
    ),
    "Upkeep": ("init", "config", "recover_jobs", "check", "rebuild", "doctor", "completion"),
}

# These close what they opened. A cleanup of the interpreter would take a noticeable part of their time.
_OVER_AT_ONCE = ("submit", "submit_job")


def usage() -> str:
    width = max(map(len, VERBS))
    grouped = {verb for verbs in GROUPS.values() for verb in verbs}
    groups = {**GROUPS, "More": tuple(verb for verb in VERBS if verb not in grouped)}
    sections = []
    for group, verbs in groups.items():
        lines = [f"  {verb:{width}}  {VERBS[verb]}" for verb in verbs if verb in VERBS]
        sections += ["\n".join((f"{group}:", *lines))] if lines else []
    return (
        "usage: jobjar VERB [OPTION…] [WORD…]\n\n"
        + "\n\n".join(sections)
        + "\n\n`jobjar VERB --help` says more of each. "
        "A hyphen may stand for an underscore."
    )


def main(argv: Sequence[str] | None = None, program_path: str | None = None) -> int:
    begin(is_program=argv is None)
    if "_ARGCOMPLETE" in os.environ and argv is None:  # a shell asks what may come next
        from jobjar.programs.completing import complete_verb

        complete_verb(VERBS, program_path)
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(usage(), file=sys.stderr)
        return 2
    if words[0] == "help" and len(words) == 2:
        words = [words[1], "--help"]
    if words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from jobjar.programs.version import describe_version

        print(describe_version(program_path))
        return 0
    verb = words[0].replace("-", "_")
    if verb not in VERBS:
        print(f"jobjar: there is no verb {words[0]!r}{_suggest(verb)}; `jobjar help` lists them", file=sys.stderr)
        return 2
    module = importlib.import_module(f"jobjar.programs.{verb}")
    status = int(module.main(words[1:], program_path, program=f"jobjar {verb}"))
    if argv is None and verb in _OVER_AT_ONCE:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # as the program of this name does (`run_and_exit_at_once` in command.py)
    return status


def _suggest(word: str) -> str:
    import difflib

    near = [verb for verb in VERBS if word in verb] or difflib.get_close_matches(word, VERBS, n=3, cutoff=0.65)
    return f"; did you mean {' or '.join(near)}?" if near else ""
