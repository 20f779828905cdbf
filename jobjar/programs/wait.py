"""jobjar wait: wait until jobs have ended, and say how."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.errors import TimedOut, UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import A_JOB, A_TIME, read_time, take_times_with_minus
from jobjar.units import parse_moment, parse_seconds

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.selecting.arrays import Tasks

_ABOUT = """Wait until jobs have ended. The last line on standard error says how; while jobs stand still, others say why.
Exit status: 0 all succeeded; 1 some did not (failed, timed out, killed, cancelled, crashed, removed), or only jobs that are held
in limbo are left; 124 the time was over before."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar wait") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument(
        "--all",
        action="store_true",
        help="wait until no job of the jar waits or runs; what ended since --since counts too",
    )
    parser.add_argument("--batch", action="append", default=[], metavar="NAME", help="wait for all jobs of a batch")
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        metavar="NAME",
        help="as --all, for a category ('': the uncategorized jobs)",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help=f"what ended before does not count: {A_TIME}. Default for --all and categories: a day ago, or when the oldest of "
        "their jobs that have not ended was submitted",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="leave with exit status 1 as soon as a job has not succeeded"
    )
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="when it is over, run this command of /bin/sh, with what ended and how in its environment (JJ_ENDED, JJ_MESSAGE "
        "and others)",
    )
    parser.add_argument("--timeout", metavar="TIME", help="wait at most so long (seconds, or 30s, 5m, 2h)")
    parser.add_argument(
        "job",
        nargs="*",
        metavar="JOB",
        help=f"{A_JOB}; a batch; a category; a pattern ('*nightly*') of names of jobs and batches",
    )

    take_times_with_minus(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.ledger.ask_awaited import BATCH
        from jobjar.programs.notify import describe_wait, tell
        from jobjar.programs.shown_meter import ShownWait
        from jobjar.reports.arrays import describe_if_array, format_array
        from jobjar.reports.refresh import describe_source
        from jobjar.reports.targets import select, select_all
        from jobjar.reports.wait import Wait, format_tally, refresh_patiently
        from jobjar.reports.wait_tasks import format_task_tally, wait_for_tasks

        is_named = bool(options.job or options.batch or options.category)
        if options.all and is_named:
            raise UsageError(
                reason="--all waits for every job of the jar; leave it out, or leave out what else is named"
            )
        if not is_named and not options.all:
            raise UsageError(reason="name what to wait for, or use --all")
        timeout_s = None if options.timeout is None else read_time("--timeout", options.timeout, parse_seconds)
        since = None if options.since is None else read_time("--since", options.since, parse_moment)
        with named_jar(options, program_path) as jar:
            refresh_patiently(jar)
            began = time.monotonic()
            tasks = _take_tasks(jar, options)
            task_tally = None
            if tasks:
                task_tally = wait_for_tasks(jar, tasks, timeout_s, options.fail_fast)
                complain(program, format_task_tally(tasks, task_tally))
                if not options.job and not options.batch and not options.category:
                    return 0 if task_tally.is_success else 1
                timeout_s = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - began))
            if options.all:
                target = select_all(jar, since)
            else:
                target = select(jar, options.job, options.batch, options.category, since)
            shown = ShownWait(lambda line: complain(program, line))
            wait = Wait(jar, target, shown.log, shown.show, options.fail_fast)
            batches = [str(kind.word) for kind in target.selections if kind.kind == BATCH]
            try:
                tally = wait.run(timeout_s)
            except TimedOut:
                shown.end()
                tally = wait.tally()
                if tally.unsuccessful:
                    complain(program, format_tally(tally, batches))
                raise
            finally:
                shown.end()
            warn_of_source(program, describe_source(jar))
            for line in wait.unseen():
                complain(program, line)
            told = None if options.notify is None else describe_wait(jar, target, tally, format_tally(tally, batches))
            arrays = [described for name in batches if (described := describe_if_array(jar, name)) is not None]
        for described in arrays:
            complain(program, format_array(described))
        if arrays and len(arrays) == len(target.selections) and not target.jobs and not tally.open:
            # Their tasks count, and not the chunks: one that was cancelled may have been run again since.
            is_success = all(described["succeeded"] == described["tasks"] for described in arrays)
            return 0 if is_success and (task_tally is None or task_tally.is_success) else 1
        complain(program, format_tally(tally, batches))
        if tally.open:
            complain(program, f"not waited for any longer: {tally.open:,} of {tally.jobs:,}, which go on")
        if told is not None:
            tell(jar, options.notify, told, lambda line: complain(program, line))
        return 0 if tally.is_success and (task_tally is None or task_tally.is_success) else 1

    return run(parser, argv, body)


def _take_tasks(jar: Jar, options: argparse.Namespace) -> list[Tasks]:
    """Take the words that name single tasks (`ARRAY[1-10]`) out of the options."""
    from jobjar.selecting.arrays import find_tasks

    taken, rest = [], []
    for word in options.job:
        tasks = find_tasks(jar, word) if "[" in word else None
        if tasks is not None and tasks.ranges is not None:
            taken.append(tasks)
        else:
            rest.append(word)
    options.job = rest
    return taken
