"""How `jobjar retry` and its like take arrays and their tasks."""

from __future__ import annotations

import argparse

from jobjar.errors import JarError
from jobjar.programs.command import complain, named_jar


def retry_named_arrays(options: argparse.Namespace, program_path: str | None, program: str) -> int | None:
    """Retry the tasks of the arrays among the words, which leave the options. Returns the exit status, or None if jobs are left
    that are to be retried."""
    from jobjar.arrays.retry import retry_tasks
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.selecting.arrays import find_tasks

    if not options.job:
        return None
    rest, status = [], 0
    with named_jar(options, program_path) as jar:
        refresh_ledger(jar)
        for word in options.job:
            tasks = find_tasks(jar, word)
            if tasks is None:
                rest.append(word)
                continue
            try:
                if options.dry_run:
                    print(f"would retry the unsuccessful tasks of {word}")
                    continue
                count = retry_tasks(jar, tasks.array.uid, tasks.ranges)
                print(f"retried {count:,} task{'s' if count != 1 else ''} of {tasks.array.uid}")
            except JarError as error:
                complain(program, error)
                status = error.exit_status
    options.job = rest
    return None if rest else status
