"""How soon a new node claims its first job in a jar with a long history.

The jar has N completed jobs in a snapshot, like one that a node publishes after it has folded them. Their files in completed/
are omitted, since nothing measured here lists that directory. In a second jar, fewer jobs are in a journal, without a snapshot.
The ledger home is new each time. The time is that of a process that opens the jar and claims one waiting job; it has loaded all
its Python code before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measure import alternate, make_directory, make_parser, parse, print_table, shown, spread, temporary_jar

from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import new_id
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.private import open_private_ledger
from jobjar.ledger.snapshot import publish_snapshot

# Claims one job from a new ledger home, as a worker does, and prints the seconds from opening the jar to the claim.
_CLAIM = """
import os, sys, time
from jobjar.jar import open_jar
import jobjar.worker.loop
started = time.perf_counter()
jar = open_jar()
worker = jobjar.worker.loop.Worker(jar, (), lambda line: print(line, file=sys.stderr))
worker.start()
job = worker._next_job.claim()
print(time.perf_counter() - started)
assert job is not None
worker.give_back(job)
worker.finish("measured")
"""


def write_history(jar: Path, count: int) -> None:
    """Write a journal of another node, with `count` jobs that were submitted, claimed, run and completed."""
    now = time.time() - 86400.0
    worker = {"worker": "far.77", "worker_uid": "w" * 12}
    with open(jar / "ledger" / "journals" / "far.0000aaaa.jsonl", "w", encoding="utf-8", buffering=1 << 20) as file:
        for number in range(count):
            uid, at = new_id(), round(now + number * 0.01, 6)
            name = f"20260101T000000.000000Z-{uid}-far-77-{number}-somebody.0"
            waiting, held, done = f"unclaimed/{name}", f"workers/far.77/jobs/{name}", f"completed/{name}"
            move = {"entry": "moved", "job": uid}
            for entry in (
                {
                    "entry": "submitted",
                    "job": uid,
                    "name": name,
                    "category": "",
                    "submitter": "somebody",
                    "submitted_at": at,
                },
                {
                    **move,
                    "number": 1,
                    "from": f"limbo/{name}",
                    "to": waiting,
                    "moved_at": at,
                    "reason": "submitted",
                    "by": "somebody",
                },
                {
                    **move,
                    "number": 2,
                    "from": waiting,
                    "to": held,
                    "moved_at": at + 1,
                    "reason": "claimed",
                    "by": "far.77",
                    "worker_uid": "w" * 12,
                    "attempt": 1,
                },
                {
                    "entry": "ended",
                    "job": uid,
                    "attempt": 1,
                    **worker,
                    "ended_at": at + 2,
                    "final": True,
                    "outcome": "succeeded",
                    "exit_status": 0,
                    "wall_time_s": 0.9,
                    "user_cpu_s": 0.4,
                    "system_cpu_s": 0.1,
                    "max_rss_kib": 30000,
                    "output_file": None,
                    "pid": 4000,
                    "pid_started": 1.0,
                },
                {
                    **move,
                    "number": 3,
                    "from": held,
                    "to": done,
                    "moved_at": at + 2,
                    "reason": "completed",
                    "by": "far.77",
                    "category": "",
                },
            ):
                file.write("\n" + json.dumps(entry, separators=(",", ":")))


def fill_first_home(jar: Jar, count: int) -> None:
    """Write the first node's ledger of `count` jobs directly as rows, since to fold so many would take minutes. The journal that
    it seems to have folded is a hole of the right size."""
    now = time.time() - 86400.0
    uids = [new_id() for _ in range(count)]
    names = [f"20260101T000000.000000Z-{uid}-far-77-{number}-somebody.0" for number, uid in enumerate(uids)]
    journal = f"{jar.layout.journals}/far.0000aaaa.jsonl"
    with open(journal, "wb") as file:
        file.truncate(count * 1300)
    with jar.ledger.writing() as connection:
        connection.execute("PRAGMA cache_size = -2000000")
        rows = list(zip(uids, names, (now + number * 0.01 for number in range(count)), strict=True))
        connection.executemany(
            "INSERT INTO job (uid, name, state, place, submitter, submitted_at, moved_at, move_number) "
            "VALUES (?1, ?2, 'completed', 'completed/' || ?2, 'somebody', ?3, ?3 + 2, 3)",
            rows,
        )
        rows.sort()
        for number, origin, destination, reason, actor in (
            (1, "limbo/", "unclaimed/", "submitted", "somebody"),
            (2, "unclaimed/", "workers/far.77/jobs/", "claimed", "far.77"),
            (3, "workers/far.77/jobs/", "completed/", "completed", "far.77"),
        ):
            connection.executemany(
                f"INSERT INTO move VALUES (?1, {number}, ?3 + {number}, '{origin}' || ?2, '{destination}' || ?2, "
                f"'{reason}', '{actor}')",
                rows,
            )
        connection.executemany(
            "INSERT INTO attempt (job_uid, number, worker, worker_uid, started_at, ended_at, outcome, is_final, exit_status, "
            "wall_time_s, user_cpu_s, system_cpu_s, max_rss_kib, pid, pid_started) VALUES "
            "(?1, 1, 'far.77', 'wwwwwwwwwwww', ?3 + 1, ?3 + 2, 'succeeded', 1, 0, 0.9, 0.4, 0.1, 30000, 4000, 1)",
            rows,
        )
        connection.execute("INSERT INTO journal_position VALUES ('far.0000aaaa.jsonl', ?, 0)", (count * 1300,))


def claim_once(home: Path) -> float:
    """Seconds to the first claim of a process with this ledger home."""
    environment = {**os.environ, "JJ_LEDGER_HOME": str(home)}
    result = subprocess.run([sys.executable, "-c", _CLAIM], env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout)


def copy_once(snapshot: str, target: Path) -> float:
    """Seconds for a bare copy of the snapshot to the place of ledger homes."""
    started = time.perf_counter()
    shutil.copyfile(snapshot, target)
    return time.perf_counter() - started


def read_once(jar: Jar) -> float:
    """Seconds until a user who may only read has a ledger to query."""
    started = time.perf_counter()
    ledger = open_private_ledger(jar.layout, print)
    with ledger.writing() as connection:
        fold_journals(connection, jar.layout)
    ledger.close()
    return time.perf_counter() - started


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--folded", type=int, default=20_000, help="jobs that are folded without a snapshot (20000)")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="completed jobs in the history (default: 1000000)")
    options = parse(parser)
    with temporary_jar(options.directory) as home:
        write_history(home, options.folded)
        subprocess.run([f"{home}/bin/submit_job", "true"], check=True, stdout=subprocess.DEVNULL)
        without = claim_once(make_directory(options.directory) / "first")
    with temporary_jar(options.directory) as home:
        place = make_directory(options.directory)
        subprocess.run([f"{home}/bin/submit_job", "true"], check=True, stdout=subprocess.DEVNULL)
        jar = open_jar(environment={**os.environ, "JJ_LEDGER_HOME": str(place / "first")})
        fill_first_home(jar, options.jobs)
        started = time.perf_counter()
        publish_snapshot(jar.ledger, older_than_s=0)
        published = time.perf_counter() - started
        size = os.path.getsize(jar.layout.snapshot) / 1e6
        number = iter(range(1_000_000))
        values = alternate(
            options.rounds,
            {
                "copy": lambda: copy_once(jar.layout.snapshot, place / f"copy{next(number)}"),
                "claim": lambda: claim_once(place / f"home{next(number)}"),
                "read": lambda: read_once(jar),
                "warm": lambda: claim_once(place / "first"),
            },
        )
        jar.close()
    rows = [
        ("a bare copy of the snapshot", spread(values["copy"], "s")),
        ("a new home's first claim", spread(values["claim"], "s")),
        ("the same in a home that is up to date", spread(values["warm"], "s")),
        ("a reader's private ledger", spread(values["read"], "s")),
        ("publishing the snapshot", shown(published, "s")),
        (f"a first claim without a snapshot, {options.folded:,} jobs to fold", shown(without, "s")),
    ]
    print(f"{options.jobs:,} completed jobs, a snapshot of {size:,.0f} MB")
    print_table(("", "time"), rows)


if __name__ == "__main__":
    main()
