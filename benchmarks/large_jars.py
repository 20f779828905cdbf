"""Make jars of any size at the speed of the disk: the files, their journal, and the ledger that has folded it.

A job's file is empty and executable: like a real one it has an inode of its own, but it has no block. The journal is that of one
other ledger home. Its entries are those of `submit_job` and a worker (bench_folding.py). This makes a jar to try things on:
python benchmarks/large_jars.py HOME --waiting 1000000 --completed 1000000
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench_folding import job_entries

from jobjar.create import create_jar
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import new_job_id
from jobjar.layout import name_in_place, unclaimed_place
from jobjar.ledger.fold import fold_journals

# Lines are written this many at a time.
_CHUNK = 20_000
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def make_large_jar(home: Path, waiting: int, completed: int, category: str = "") -> Jar:
    """Make a jar with so many waiting jobs, all of one category, and so many jobs that ended within the last hours. It is open,
    and its ledger is up to date. JJ_* variables of the environment are ignored."""
    create_jar(str(home))
    jar = open_jar(environment={"JJ_HOME": str(home), "JJ_CONFIG_FILE": os.devnull})
    os.makedirs(jar.layout.category_directory(category), exist_ok=True)
    began = time.time() - 1e-2 * completed
    with open(f"{jar.layout.journals}/other.0000.jsonl", "w", encoding="ascii") as journal:
        for lines in _chunks(_make_jobs(jar, waiting, completed, category, began)):
            journal.write("".join(lines))
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
    return jar


def _make_jobs(jar: Jar, waiting: int, completed: int, category: str, began: float) -> Iterator[str]:
    """Make the files and yield the journal's lines. A job's lines come after its file. The waiting jobs come last."""
    for number in range(completed + waiting):
        now = began + 1e-2 * number if number < completed else time.time()
        submitted, worked = job_entries(new_job_id(), number, now, category)
        is_completed = number < completed
        name = name_in_place(submitted[-1]["to"])
        place = f"completed/{name}" if is_completed else unclaimed_place(category, name)
        os.close(os.open(jar.layout.path(place), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o700))
        if not is_completed:
            submitted[-1]["moved_at"] = os.stat(jar.layout.path(place)).st_ctime
        for entry in (*submitted, *(worked if is_completed else ())):
            yield f"\n{_ENCODER.encode(entry)}"


def _chunks(lines: Iterator[str]) -> Iterator[list[str]]:
    while some := list(itertools.islice(lines, _CHUNK)):
        yield some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="the jar to make")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="jobs that wait (default: 1000000)")
    parser.add_argument("--completed", type=int, default=1_000_000, help="jobs that have ended (default: 1000000)")
    parser.add_argument("--category", default="", help="of the jobs that wait (default: none)")
    options = parser.parse_args()
    started = time.monotonic()
    make_large_jar(options.home, options.waiting, options.completed, options.category).close()
    print(f"made {options.home} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
