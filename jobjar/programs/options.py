"""Options that several programs have: a job, several jobs, filters of jobs, formats. The words are the same in each."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from jobjar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobjar.selecting.selection import Selection

A_JOB = "a job's name, id (or its first letters), or path; @1 is the job that you submitted last, @2 the one before"
A_TIME = "so long ago (30m, 2h, 1d), or a date and time of here (14:00, 2026-11-20, 2026-11-20T14:00)"


def read_time(option: str, text: str, parse: Callable[[str], float]) -> float:
    """The time that an option was given, in seconds as `parse` has them. Raises UsageError."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(reason=f"{option}: {error}") from error


def add_job(parser: argparse.ArgumentParser) -> None:
    """Add the one job that a program is about: `options.job`."""
    parser.add_argument("job", metavar="JOB", help=A_JOB)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the jobs that a program is about, each by a word of its own: `options.job`, a list."""
    parser.add_argument("job", nargs="+", metavar="JOB", help=A_JOB)


def add_table_format(parser: argparse.ArgumentParser, default: str = "simple", others: str = "json") -> None:
    """Add `--format` of programs that print tables."""
    parser.add_argument("--format", default=default, help=f"{others}, or any format of tabulate (default: {default})")


def add_text_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format` of programs that print text."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="text or json (default: text)")


def add_selection(parser: argparse.ArgumentParser, does: str | None = None) -> None:
    """Add jobs, filters and `--all`; `read_selection` makes a Selection of them. `does` is what the program does to the jobs
    ("cancel"): it then is about this user's own jobs, unless submitters are named."""
    parser.add_argument("job", nargs="*", metavar="JOB", help=f"{A_JOB}; a pattern ('*nightly*') names all that fit")
    group = parser.add_argument_group("filters", "all that are given have to fit; each may be given several times")
    states = "running, held, dependent, waiting, ended, removed"
    outcomes = "succeeded, failed, timed_out, killed, cancelled, crashed, or unknown"
    whose = "a user's jobs ('*': those of everybody" + ("; default: your own)" if does else ", which is the default)")
    everything = f"{does} all of your jobs that can be" if does else "all jobs, which is the default"
    for name, metavar, text in (
        ("state", "STATE", f"jobs that are {states}"),
        ("outcome", "OUTCOME", f"jobs that ended so: {outcomes}"),
        ("category", "NAME", "jobs of a category ('': the uncategorized jobs)"),
        ("batch", "NAME", "jobs of a batch"),
        ("array", "ARRAY", "an array, by its name, its id or the first letters of that"),
        ("submitter", "USER", whose),
        ("name", "GLOB", "jobs with a name, or an identifier (submit_job --id), that fits a pattern: 'train*'"),
        ("exit-status", "N", "jobs that ended with this exit status (1,2: with one of these)"),
        ("worker", "WORKER", "jobs that a worker runs or ended"),
        ("node", "NODE", "jobs that the workers of a node run or ended"),
    ):
        group.add_argument(f"--{name}", action="append", metavar=metavar, help=text)
    came = "jobs that were submitted, claimed or ended, whichever came last,"
    group.add_argument("--since", metavar="TIME", help=f"{came} at this time or later: {A_TIME}")
    group.add_argument("--until", metavar="TIME", help=f"{came} before this time")
    group.add_argument("--all", action="store_true", help=everything)
    take_times_with_minus(parser)


def read_selection(options: argparse.Namespace) -> Selection:
    """The selection that the options of `add_selection` make. Raises UsageError."""
    from jobjar.errors import UsageError
    from jobjar.selecting.selection import FILTERS, make_selection

    given = {name: getattr(options, name) for name in FILTERS}
    if options.all and options.job:
        raise UsageError(reason="--all means all jobs; leave it out, or leave out the jobs that are named")
    return make_selection(options.job, options.all, **given)


def take_times_with_minus(parser: argparse.ArgumentParser) -> None:
    """Have `--since -2h` mean what it says. Else argparse takes the time for an option, because it is no number."""
    parser._negative_number_matcher = re.compile(r"-[0-9]")
