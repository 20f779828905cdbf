"""Arrays: how many tasks that do nothing two workers run in a second, beside the floor of posix_spawn and waitpid and beside as
many jobs; and what an array of a million tasks costs: to submit, in files, in the journal, in the ledger, to fold, to ask about.

The ends of the large array are made, not run: the entries are those that workers write. All settings are at their defaults.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from measure import (
    alternate,
    last_arrival,
    make_parser,
    median_ratio,
    parse,
    print_table,
    release,
    shown,
    spread,
    temporary_jar,
    verdict,
)
from throughput import measure_floor, measure_workers

from jobjar.arrays.indexes import range_in_name
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import id_in_name
from jobjar.journal.entries import About, tasks_entry
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals

WANTED_OF_FLOOR = 0.85
WANTED_SUBMIT_S, WANTED_FILES = 2.0, 1100
WANTED_ASK_S = 0.3
WANTED_JOURNAL_BYTES, WANTED_LEDGER_BYTES = 60, 100
WANTED_FOLDED = 200_000
LOOK_INTERVAL_S = 0.05
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def submit(home: Path, tasks: int) -> str:
    command = [f"{home}/bin/jobjar", "submit", "--array", f"1-{tasks}", "/bin/true"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def measure_tasks(directory: str, tasks: int, workers: int) -> float:
    """Tasks a second that `workers` workers run, from their release until the last chunk is in completed/."""
    with temporary_jar(directory) as home:
        submit(home, tasks)

        def wait() -> float:
            while any(home.glob("unclaimed/*+*")) or any(home.glob("workers/*/jobs/*")):
                time.sleep(LOOK_INTERVAL_S)
            return last_arrival(home / "completed")

        seconds = release(home, workers, wait)
        jar = open_jar()
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            succeeded = connection.execute("SELECT succeeded FROM array").fetchone()[0]
        jar.close()
        if succeeded != tasks:
            raise SystemExit(f"{succeeded} of {tasks} tasks succeeded")
        return tasks / seconds


def ask(home: Path, *words: str) -> float:
    """Seconds that a program takes to answer; the median of three times."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([f"{home}/bin/{words[0]}", *words[1:]], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def files_below(home: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(home))


def make_ends(jar: Jar, array: str) -> Iterator[str]:
    """The lines of a journal that tell of the ends of all tasks of an array: 256 in an entry."""
    now = time.time()
    for number, name in enumerate(sorted(os.listdir(jar.layout.unclaimed))):
        ranged, uid = range_in_name(name), id_in_name(name)
        if ranged is None or uid is None:
            continue
        about = About(uid, 1, f"rain.{number % 16}", f"workeruid{number % 16}")
        first, last = ranged
        for start in range(first, last + 1, 256):
            rows = [
                [index, 0, 2 * (index - start), 1400 + index % 97, 500 + index % 41, 700 + index % 53, 3400, 0]
                for index in range(start, min(last + 1, start + 256))
            ]
            at_ms = int(now * 1000) + 2 * start
            yield "\n" + _ENCODER.encode(tasks_entry(about, array, at_ms, 0, rows, f"{name}.1.out"))


def measure_large(directory: str, tasks: int) -> list[tuple[str, str, str]]:
    """The rows of the table about one large array."""
    rows = []
    with temporary_jar(directory) as home:
        before = files_below(home)
        began = time.perf_counter()
        array = submit(home, tasks)
        took_s = time.perf_counter() - began
        files = files_below(home) - before
        rows.append((f"{tasks:,} tasks submitted", shown(took_s, "s"), verdict(took_s, WANTED_SUBMIT_S, False)))
        rows.append(("files that this makes", f"{files:,}", verdict(files, WANTED_FILES, False)))
        ask(home, "jobjar", "rebuild")
        jar = open_jar()
        database = Path(jar.ledger_home.database)
        lines = list(make_ends(jar, array))
        middle = len(lines) // 2
        journal = Path(jar.layout.journals) / "other.0000.jsonl"
        folded_s = 0.0
        bytes_before = 0
        for part, when in ((lines[:middle], "half of them have ended"), (lines[middle:], "all have ended")):
            with open(journal, "a", encoding="ascii") as file:
                file.write("".join(part))
            began = time.perf_counter()
            with jar.ledger.writing() as connection:
                bytes_before = bytes_before or count_bytes(connection)
                fold_journals(connection, jar.layout)
            folded_s += time.perf_counter() - began
            for words in (("system_status",), ("jobjar", "list"), ("jobjar", "show", array)):
                answer_s = ask(home, *words)
                rows.append(
                    (f"`{' '.join(words[:2])}`, {when}", shown(answer_s, "s"), verdict(answer_s, WANTED_ASK_S, False))
                )
        with jar.ledger.writing() as connection:
            ledger_bytes = (count_bytes(connection) - bytes_before) / tasks
            ended = connection.execute("SELECT succeeded FROM array").fetchone()[0]
        if ended != tasks:
            raise SystemExit(f"{ended} of {tasks} tasks are in {database}")
        journal_bytes = journal.stat().st_size / tasks
        jar.close()
    rows += [
        ("bytes a task in the journal", shown(journal_bytes), verdict(journal_bytes, WANTED_JOURNAL_BYTES, False)),
        ("bytes a task in the ledger", shown(ledger_bytes), verdict(ledger_bytes, WANTED_LEDGER_BYTES, False)),
        ("ends folded a second", f"{tasks / folded_s:,.0f}", verdict(tasks / folded_s, WANTED_FOLDED, True)),
    ]
    return rows


def count_bytes(connection: Connection) -> int:
    """The size of the ledger's pages that are in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks in each round (default: 10,000)")
    parser.add_argument("--jobs", type=int, default=2_000, help="plain jobs in each round (default: 2,000)")
    parser.add_argument("--large", type=int, default=1_000_000, help="tasks of the large array (default: 1,000,000)")
    parser.add_argument("--workers", type=int, default=2, help="workers, and processes of the floor (default: 2)")
    options = parse(parser)
    values = alternate(
        options.rounds,
        {
            "floor": lambda: measure_floor(options.directory, options.tasks, options.workers),
            "tasks": lambda: measure_tasks(options.directory, options.tasks, options.workers),
            "jobs": lambda: measure_workers(options.directory, options.jobs, options.workers),
        },
    )
    of_floor = median_ratio(values["tasks"], values["floor"])
    print_table(
        ("", "a second", "of the floor", "wanted"),
        [
            (f"posix_spawn + waitpid, {options.workers} processes", spread(values["floor"]), "1", ""),
            (
                f"tasks of an array, {options.workers} workers",
                spread(values["tasks"]),
                shown(of_floor),
                verdict(of_floor, WANTED_OF_FLOOR, True),
            ),
            ("jobs", spread(values["jobs"]), shown(median_ratio(values["jobs"], values["floor"])), ""),
        ],
    )
    print()
    print_table(("", "measured", "wanted"), measure_large(options.directory, options.large))


if __name__ == "__main__":
    main()
