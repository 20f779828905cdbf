"""The cost of folding for a node: the journals of n other ledger homes grow by so many jobs a second, and this node folds them
once per JJ_POLL_TIME.

One process submits the jobs of each home, so their ids follow each other. With `--scattered`, a process of its own submits each
job, as from a shell. A job has five entries: submitted and moved to unclaimed (in one home's journal); moved to a worker, ended
and moved to completed (in another's). The floor is measured in the same rounds: json.loads of the same lines, and an insert of
one row for each line into a bare table of the same database. "Idle" is a fold of journals without new entries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import alternate, make_directory, make_parser, parse, print_table, shown, spread, verdict

from jobjar.create import create_jar
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import new_id
from jobjar.journal.append import Journal
from jobjar.journal.read import Entry
from jobjar.layout import held_place, unclaimed_place
from jobjar.ledger.fold import fold_journals, journal_paths

WANTED_US = 50.0


def job_entries(uid: str, number: int, now: float, category: str = "") -> tuple[list[Entry], list[Entry]]:
    """The entries of a job's submitter, and those of its worker."""
    name = f"20260102T030405Z-{uid}-rain{number % 64}-4711-{number}-ann.{number % 3}"
    worker = {"worker": f"snow{number % 64}.1234", "worker_uid": f"w{number % 64:011}"}
    held = held_place(worker["worker"], category, name)
    waiting = unclaimed_place(category, name)

    def moved(count: int, origin: str, to: str, reason: str, by: str, **fields: Any) -> Entry:
        move = {"number": count, "from": origin, "to": to, "moved_at": round(now + count * 1e-3, 6)}
        return {"entry": "moved", "job": uid, **move, "reason": reason, "by": by, **fields}

    submitted = {
        "entry": "submitted",
        "job": uid,
        "name": name,
        "category": category,
        "submitter": "ann",
        "submitted_at": now,
    }
    uses = {"wall_time_s": 0.001234, "user_cpu_s": 0.000456, "system_cpu_s": 0.000789, "max_rss_kib": 28900}
    ended = {
        "entry": "ended",
        "job": uid,
        "attempt": 1,
        **worker,
        "ended_at": round(now + 2e-3, 6),
        "final": True,
        "not_before": 0,
        "outcome": "succeeded",
        "exit_status": 0,
        **uses,
        "pid": 4712,
        "pid_started": 123456.0,
    }
    return (
        [submitted, moved(1, f"limbo/{name}", waiting, "submitted", "ann")],
        [
            moved(2, waiting, held, "claimed", worker["worker"], worker_uid=worker["worker_uid"], attempt=1),
            ended,
            moved(3, held, f"completed/{name}", "completed", worker["worker"], category=category),
        ],
    )


def ids_of_a_process(count: int) -> Iterator[str]:
    """The ids that one submitting process gives to its jobs."""
    code = f"from jobjar.job_file.names import new_job_id\nfor _ in range({count}): print(new_job_id())"
    return iter(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


class Others:
    """The journals of n other homes, and the ledger that folds them."""

    def __init__(self, directory: Path, writers: int, at_most: int, scattered: bool) -> None:
        home = directory / f"jar-{writers}"
        create_jar(str(home))
        environment = {"JJ_HOME": str(home), "JJ_LEDGER_HOME": str(home) + ".ledger", "JJ_CONFIG_FILE": os.devnull}
        self.jar: Jar = open_jar(environment=environment)
        self.journals = [Journal(f"{self.jar.layout.journals}/rain{n}.jsonl") for n in range(writers)]
        self.jar.ledger.open()
        with self.jar.ledger.writing() as connection:
            connection.execute("CREATE TABLE floor (line INTEGER PRIMARY KEY, text TEXT)")
        self.scattered = scattered
        self.ids = [ids_of_a_process(0 if scattered else at_most // writers + 1) for _ in range(writers)]
        self.jobs = 0
        self.lines: list[str] = []

    def grow(self, jobs: int) -> None:
        self.lines = []
        now = time.time()
        for number in range(self.jobs, self.jobs + jobs):
            uid = new_id() if self.scattered else next(self.ids[number % len(self.ids)])
            submitted, worked = job_entries(uid, number, now + number * 1e-4)
            for journal, entries in ((number, submitted), (number * 7 + 1, worked)):
                self.journals[journal % len(self.journals)].append(entries)
                self.lines += [json.dumps(entry, separators=(",", ":")) for entry in entries]
        self.jobs += jobs

    def fold(self, jobs: int) -> float:
        """Microseconds of processor time for each job."""
        started = time.process_time()
        with self.jar.ledger.writing() as connection:
            taken = fold_journals(connection, self.jar.layout)
        assert taken == len(self.lines) == 5 * jobs, taken
        return (time.process_time() - started) / jobs * 1e6

    def floor(self, jobs: int) -> float:
        started = time.process_time()
        with self.jar.ledger.writing() as connection:
            for line in self.lines:
                json.loads(line)
                connection.execute("INSERT INTO floor (text) VALUES (?)", (line,))
        return (time.process_time() - started) / jobs * 1e6

    def idle(self) -> float:
        """Milliseconds for a fold when nothing is new."""
        started = time.perf_counter()
        with self.jar.ledger.writing() as connection:
            fold_journals(connection, self.jar.layout)
        return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = make_parser(__doc__, rounds=9)
    parser.add_argument("--rate", type=int, default=1_000, help="jobs that the others end in a second (default: 1000)")
    parser.add_argument("--history", type=int, default=5_000, help="jobs in the ledger before (default: 5000)")
    parser.add_argument("--writers", default="2,4,16,64", help="numbers of journals (default: 2,4,16,64)")
    parser.add_argument("--scattered", action="store_true", help="each job is submitted by a process of its own")
    options = parse(parser)
    directory = make_directory(options.directory)
    rows = []
    for writers in (int(text) for text in options.writers.split(",")):
        others = Others(directory, writers, options.history + options.rate * (options.rounds + 1), options.scattered)
        others.grow(options.history)
        others.fold(options.history)

        def fold(others: Others = others) -> float:
            others.grow(options.rate)
            return others.fold(options.rate)

        values = alternate(
            options.rounds,
            {"fold": fold, "floor": lambda o=others: o.floor(options.rate), "idle": others.idle},  # type: ignore[misc]
        )
        cost = sorted(values["fold"])[len(values["fold"]) // 2]
        rows.append(
            (
                len(journal_paths(others.jar.layout)),
                spread(values["fold"], "µs"),
                spread(values["floor"], "µs"),
                f"{cost * options.rate / 1e4:.1f} %",
                verdict(cost, WANTED_US, False),
                shown(sorted(values["idle"])[len(values["idle"]) // 2], "ms"),
            )
        )
        others.jar.close()
        for journal in others.journals:
            journal.close()
    share = f"of a core at {options.rate:,} jobs/s"
    print_table(("writers", "folding a job", "floor a job", share, "µs a job, wanted", "idle fold"), rows)


if __name__ == "__main__":
    main()
