"""jobjar submit: submit a job as it is typed, in the directory where it is typed; print its id."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobjar.errors import UsageError
from jobjar.job_file.names import id_in_name, parse_priority
from jobjar.programs.command import make_parser, named_jar, run, run_and_exit_at_once

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.stages.submit import Submission

_ABOUT = """Submit a job and print its id. The job runs in the directory where this is typed.
Several words are a program and its words, quoted as they were typed. One word is a line for /bin/sh. - is a script from standard
input. With -f, the job is a copy of an executable file. A script may say the same as the options, in lines `#JJ name = value`."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar submit") -> int:
    parser = make_parser(program, _ABOUT)
    parser.usage = (
        f"{program} [OPTION…] COMMAND [WORD…]\n       {program} [OPTION…] -f FILE [WORD…]\n"
        f"       {program} [OPTION…] - [WORD…] < SCRIPT"
    )
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", help="submit a copy of this executable file; the words are its arguments")
    add("--name", metavar="NAME", help="a name to find the job by (up to 80 letters, digits and _ + @ %% = - .)")
    add("-p", "--priority", metavar="N", help="an integer; higher is claimed first (default 0)")
    add("-c", "--category", metavar="CATEGORY", help="the category, made where missing (default: none)")
    add("--tag", metavar="TAG", action="append", help="a mark to find the job by; may be repeated")
    add("--dir", metavar="DIR", help="run it in this directory (default: the one where this is typed)")
    add("--scratch", action="store_true", default=None, help="run it in a fresh directory, which is removed afterwards")
    add("--output", metavar="PATH", help="write its output, and its errors, to this file; %%j is the id, %%n the name, "
        "%%c the category, %%t the attempt, %%a the index of a task, %%A the id of an array. A file that is there is never "
        "overwritten")  # fmt: skip
    add("--error", metavar="PATH", help="write its errors to this file")
    add("--env", metavar="NAME[=VALUE]", action="append", help="set a variable, or hand on its value; may be repeated")
    add("--env-all", action="store_true", default=None, help="hand on all variables that are set here")
    add("--hold", action="store_true", default=None, help="hold it in limbo until somebody releases it")
    for kind, how in (
        ("after", "succeeded"),
        ("after-any", "ended, however"),
        ("after-failed", "ended without success"),
    ):
        add(
            f"--{kind}",
            metavar="JOB",
            action="append",
            help=f"run it once this job or batch has {how}; may be repeated",
        )
    add("--after-each", metavar="ARRAY", action="append", help="run each task of an array once the task of this array with "
        "the same index has succeeded; may be repeated")  # fmt: skip
    add("--begin", metavar="TIME", help="do not begin before: +2h, 18:30, 2026-11-20T14:00")
    add("--time-limit", metavar="TIME", help="end it when it runs longer (90, 30m, 2h)")
    add("--warn", metavar="SIGNAL@TIME", help="send its process this signal so long before the time limit (USR1@60s)")
    add("--retries", metavar="N", help="run it again up to N times when it fails; or unlimited")
    add("--retry-delay", metavar="TIME", help="wait before the first retry (30s, 5m); doubled each time")
    add("--retry-on", metavar="STATUSES", help="only after these exit statuses (75,100-110; 128+N for signal N, 124 for a "
        "time limit)")  # fmt: skip
    add("--no-retry-on", metavar="STATUSES", help="not after these exit statuses")
    add("--cores", metavar="N", help="how many cores it needs (default: 1)")
    add("--memory", metavar="SIZE", help="how much memory it needs (500M, 8G)")
    add("--gpus", metavar="N", help="how many GPUs it needs")
    add("--resource", metavar="NAME=N", action="append", help="what else it needs of its worker; may be repeated")
    add("--job-runtime", metavar="TIME", help="how long it is expected to run")
    add("--array", metavar="FIRST-LAST[:STEP][%N]", help="submit an array: a task for each index, which it finds in "
        "JJ_ARRAY_INDEX and as $1; at most N run at once")  # fmt: skip
    add("--each-line", metavar="FILE", help="submit an array: a task for each line of a file (- is standard input), which it "
        "finds in JJ_ENTRY and as $1")  # fmt: skip
    add("--each-json", metavar="FILE", help="submit an array: a task for each value of a JSON list, or for each line with a "
        "JSON value")  # fmt: skip
    add("--limit", metavar="N", help="run at most N tasks of an array at once, over all workers")
    add("--chunk", metavar="N", help="how many tasks of an array one worker claims together")
    add(
        "--fail-fast", action="store_true", help="cancel the rest of an array when one of its tasks has failed for good"
    )
    add("--wait", action="store_true", help="stay until it has ended, and exit as it did; an array: 0 if all its tasks have "
        "succeeded, else 1")  # fmt: skip
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="options after it belong to it")

    def body(options: argparse.Namespace) -> int:
        if any(getattr(options, name) is not None for name in _OF_ARRAYS):
            from jobjar.programs.submit_array import check_options, submit_and_wait

            check_options(options, parser)
            submission = _describe(options, parser)
            with named_jar(options, program_path) as jar:
                return submit_and_wait(jar, submission, options, parser)
        submission = _describe(options, parser)
        with named_jar(options, program_path) as jar:
            if options.fail_fast:
                parser.error("--fail-fast is for arrays: give --array, --each-line or --each-json")
            from jobjar.stages.submit import submit

            name = submit(jar, submission)
            _print_id(name, submission)
            if jar.has_new_dependents:
                from jobjar.steering.dependents import fold_and_settle

                fold_and_settle(jar)
            return _wait(jar, name, program) if options.wait else 0

    words = sys.argv if argv is None else argv
    return (run if "--wait" in words else run_and_exit_at_once)(parser, argv, body)


_ATTRIBUTES = (
    *(
        "tag",
        "dir",
        "scratch",
        "output",
        "error",
        "env",
        "env_all",
        "hold",
        "after",
        "after_any",
        "after_failed",
        "after_each",
        "begin",
    ),
    *("time_limit", "warn", "retries", "retry_delay", "retry_on", "no_retry_on", "job_runtime"),
    *("cores", "memory", "gpus", "resource"),
)
_OF_ARRAYS = ("array", "each_line", "each_json", "chunk", "limit")


def _describe(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Submission:
    from jobjar.typed_job import describe_copy, describe_script, describe_words

    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not options.file and not words:
        parser.error("give a COMMAND, -f FILE, or - for a script from standard input")
    if options.wait and options.hold:
        parser.error("--wait would wait for ever for a job that is held; leave out one of --wait and --hold")
    if options.dir is not None and options.scratch:
        parser.error("give either --dir or --scratch")
    if options.dir is not None and not os.path.isdir(options.dir):
        raise UsageError(
            reason=f"--dir: there is no directory {options.dir} here; nothing was submitted (for one that only other nodes "
            "have, put `#JJ dir = PATH` into a script)"
        )
    attributes: dict[str, Any] = {name: getattr(options, name) for name in _ATTRIBUTES}
    priority = None if options.priority is None else parse_priority(options.priority)
    about = priority, options.category, options.name, attributes
    if options.file:
        return describe_copy(options.file, words, *about)
    if words[0] == "-":
        return describe_script(sys.stdin.buffer.read(), words[1:], *about)
    return describe_words(words, *about)


def _print_id(name: str, submission: Submission) -> None:
    uid = id_in_name(name)
    if sys.stdout.isatty():
        found = submission.identifier
        print(f"submitted {uid}" + (f" ({found})" if found else ""), flush=True)
    else:
        print(uid, flush=True)


def _wait(jar: Jar, name: str, program: str) -> int:
    """Wait until the job has ended; returns its exit status, as a shell would have it."""
    from jobjar.attempts.attempt import TIMED_OUT
    from jobjar.processes.exit_status import TIMED_OUT_STATUS, shell_status
    from jobjar.programs.command import complain
    from jobjar.programs.shown_meter import ShownWait
    from jobjar.reports.targets import select
    from jobjar.reports.wait import Wait, format_tally, refresh_patiently
    from jobjar.selecting.named import find_job

    uid = str(id_in_name(name))
    shown = ShownWait(lambda line: complain(program, line))
    try:
        refresh_patiently(jar)
        tally = Wait(jar, select(jar, [uid]), shown.log, shown.show).run(None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{uid} goes on; `jobjar wait {uid}` waits for it, `jobjar kill {uid}` ends it"
        ) from None
    finally:
        shown.end()
    if tally.is_success:
        return 0
    complain(program, format_tally(tally))
    job = find_job(jar, uid)
    if job.outcome == TIMED_OUT:
        return TIMED_OUT_STATUS
    if job.exit_status is None and job.signal is None:
        return 1  # it was cancelled, say
    return shell_status(job.exit_status, job.signal) or 1
