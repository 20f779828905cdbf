"""jobjar output: print what jobs wrote to their standard output and error, and follow them while they run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.errors import JarError
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_jobs

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.ledger.models import JobReport

# A longer line is printed in parts, each behind its job's name.
_LONGEST_LINE = 1 << 16


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar output") -> int:
    parser = make_parser(
        program,
        "Print a job's output (standard output and error, as it came): of the attempt that completed it, or of its newest "
        "one. An attempt that lost its job to another is printed only where it is named. If several jobs are named, each line "
        "begins with the job's name.",
    )
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on as the job writes, through all of its attempts, until it has ended",
    )
    parser.add_argument(
        "-n", "--tail", type=int, metavar="N", help="print only the last N lines of what there is already"
    )
    parser.add_argument("--attempt", type=int, metavar="N", help="the attempt whose output is wanted")
    parser.add_argument("--failed", action="store_true", help="print the tasks of an array that did not succeed")
    parser.add_argument(
        "--all", action="store_true", help="print all tasks of an array that have ended, in the order of indexes"
    )
    parser.add_argument("--worker", metavar="NAME", help="the worker whose attempt is wanted")
    add_jobs(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.programs.show_array import print_output_of_tasks
        from jobjar.reports.output import check_tail
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.selecting.arrays import find_tasks
        from jobjar.selecting.named import find_job

        check_tail(options.tail)
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            # What is wrong with one word does not keep it from the other jobs.
            jobs: dict[int, JobReport] = {}
            status = 0
            for word in options.job:
                try:
                    tasks = find_tasks(jar, word)
                    if tasks is not None:
                        status = print_output_of_tasks(jar, tasks, options, word) or status
                        continue
                    job = find_job(jar, word)
                    jobs[job.id] = job
                except JarError as error:
                    complain(program, error)
                    status = error.exit_status
            warn_of_source(program, describe_source(jar))
            printer = _Printer(list(jobs.values()), is_labelled=len(options.job) > 1)
            sys.stdout.flush()
            done = _follow(jar, printer, options, program) if options.follow else _print(jar, printer, options, program)
        return status or done

    return run(parser, argv, body)


def _print(jar: Jar, printer: _Printer, options: argparse.Namespace, program: str) -> int:
    from jobjar.reports.jobs import find_output
    from jobjar.reports.output import read_output

    status = 0
    for job in printer.jobs:
        try:
            path = find_output(jar, job, options.attempt, options.worker)
            for piece in () if path is None else read_output(jar, path, options.tail):
                printer.write(job.id, piece)
        except JarError as error:
            complain(program, error)
            status = error.exit_status
        printer.end_line(job.id)
    return status


def _follow(jar: Jar, printer: _Printer, options: argparse.Namespace, program: str) -> int:
    from jobjar.reports.following import Followed, follow

    def followed(job: JobReport) -> Followed:
        def log(line: str) -> None:
            printer.end_line(job.id)
            complain(program, f"{printer.label(job.id)}: {line}")

        return Followed(jar, job, log, options.attempt, options.worker, options.tail)

    rows = {followed(job): job.id for job in printer.jobs}
    for one, piece in follow(jar, list(rows)):
        printer.write(rows[one], piece)
    return 0 if all(one.is_whole for one in rows) else 1


class _Printer:
    """Prints what jobs wrote, byte for byte. For several jobs it prints whole lines with the jobs' names in front: an
    identifier that no other of them has, else the id."""

    def __init__(self, jobs: list[JobReport], is_labelled: bool) -> None:
        from jobjar.job_file.names import identifier_in_name

        self.jobs = jobs
        self._is_labelled = is_labelled
        named = {job.id: identifier_in_name(job.name, job.submitter) for job in jobs}
        words = list(named.values())
        self._labels = {
            job.id: named[job.id] if named[job.id] and words.count(named[job.id]) == 1 else job.uid or job.name
            for job in jobs
        }
        self._begun: dict[int, bytes] = {}

    def label(self, row: int) -> str:
        return str(self._labels[row])

    def write(self, row: int, piece: bytes) -> None:
        if not self._is_labelled:
            _write(piece)
            return
        label = os.fsencode(f"{self.label(row)}: ")
        *lines, rest = (self._begun.get(row, b"") + piece).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._begun[row] = rest
        _write(b"".join(label + line + b"\n" for line in lines))

    def end_line(self, row: int) -> None:
        """Print what is held back of a line that has no end yet."""
        if self._begun.get(row):
            self.write(row, b"\n")


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
