"""What has to be true after a storm, looked for in the directories, the journals, the ledgers and the jobs' own log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from jobjar.attempts.attempt import CANCELLED, STRANDED, SUCCEEDED
from jobjar.jar import open_jar
from jobjar.journal.entries import LIFE
from jobjar.journal.read import read_journal
from jobjar.layout import name_in_place
from jobjar.ledger.fold import journal_paths
from jobjar.ledger.partners import BECAUSE
from jobjar.ledger.rebuild import dump_ledger, rebuild_ledger
from jobjar.ledger.store import driver
from jobjar.shared_disk.listing import list_jars
from jobjar.version import VERSION
from tests.faults.arrays import judge_arrays

if TYPE_CHECKING:
    from tests.faults.nodes import Node
    from tests.faults.storm import Storm

# What a ledger says: the rows of each table (rebuild.py).
Dump = dict[str, list[tuple[Any, ...]]]
_MOST_TOLD = 5
STRANDED_BY_LEASE = "stranded by lease"


class Run(NamedTuple):
    """A line of the jobs' log: one attempt that really ran."""

    uid: str
    attempt: int
    worker_uid: str
    name: str


def judge(storm: Storm, is_done: bool) -> dict[str, Any]:
    """The result of a storm; `problems` is empty where the promise was kept. Ends the nodes."""
    problems = list(storm.complaints)
    places = list_jars(storm.layout)
    runs = read_runs(storm)
    dumps = {node.name: dump_home(storm, node) for node in storm.nodes}
    ledger = dumps[storm.nodes[0].name]
    lost, twice_there = judge_places(storm, places)
    uids = {row[0] for row in ledger["attempt"] if row[8] == CANCELLED and row[9]}
    cancelled = {row[1] for row in ledger["job"] if row[0] in uids}
    never_ran = sorted(set(storm.submitter.submitted) - {run.name for run in runs} - cancelled)
    twice_final, wrong = judge_finals(ledger, storm)
    no_history = judge_history(ledger, runs, places)
    too_early, wrongly_cancelled = judge_dependents(ledger, storm, runs)
    blamed = [
        *too_early,
        *wrongly_cancelled,
        *lost,
        *twice_there,
        *never_ran,
        *twice_final,
        *(run.name for run in no_history),
        *wrong,
    ]
    for what, names in (
        ("lost", lost),
        ("in more than one place", twice_there),
        ("never ran", never_ran),
        ("completed twice", twice_final),
        ("ran though what they wait for has not ended as it has to", too_early),
        ("cancelled for the end of a prerequisite, though all ended as they have to", wrongly_cancelled),
        ("completed without the outcome that they have to have", list(wrong.values())),
        (
            "attempts without a row, or without their claim",
            [f"{run.name} attempt {run.attempt} of {run.worker_uid}" for run in no_history],
        ),
    ):
        if names:
            problems.append(f"{len(names)} jobs {what}: {names[:_MOST_TOLD]}")
    of_arrays, wrong_arrays = judge_arrays(storm, ledger)
    problems += [*wrong_arrays, *judge_ledgers(storm, dumps)]
    problems += judge_leftovers(storm)
    for name in list(dict.fromkeys(blamed))[:_MOST_TOLD]:
        problems.append(tell_history(storm, name, places, ledger))
    problems += [f"log: {line}" for line in bad_lines_of_logs(storm)]
    for node in storm.nodes:
        node.kill()
    problems += processes_left(storm)
    repeated = Counter((run.name) for run in runs)
    outcomes = Counter(kind_of_end(row) for row in ledger["attempt"])
    return {
        "command": "python -m tests.faults.storm --jobs {} --faults {} --homes {}".format(
            storm.jobs, len(storm.plan), "jar" if storm.shared else "own"
        ),
        "seed": storm.seed,
        "versions": versions(),
        "jobs": len(storm.submitter.submitted),
        "completed": sum(place.startswith("completed/") for place in places),
        "held": len(storm.submitter.held),
        "submissions_refused": storm.submitter.failed,
        "workers": 8,
        "nodes": len(storm.nodes),
        "faults": dict(storm.counts.most_common()),
        "jobs_lost": len(lost),
        "completed_twice": len(set(twice_final) | set(twice_there)),
        "history_lost": len(no_history),
        **of_arrays,
        "run_more_than_once": sum(count > 1 for count in repeated.values()),
        "attempts": dict(outcomes.most_common()),
        "dependents": len(storm.submitter.prerequisites),
        "steered": dict(storm.steerer.counts.most_common()),
        "leases_watched": storm.watches,
        "messages": dict(messages_of(ledger).most_common(15)),
        "all_completed_in_time": is_done,
        "problems": problems,
        "notes": dict(storm.notes.most_common(40)),
    }


def kind_of_end(row: tuple[Any, ...]) -> str:
    """The outcome of an attempt; of a stranded one also whether its worker had died, or was silent for longer than its lease
    and never came back to say that it had lost it."""
    is_by_lease = row[8] == STRANDED and "JJ_LEASE_TIME" in str(row[-1])
    return STRANDED_BY_LEASE if is_by_lease else str(row[8])


def messages_of(ledger: Dump) -> Counter[str]:
    """How often attempts ended with which words, the numbers and names in them left out."""
    return Counter(f"{row[8]}: {re.sub('[0-9]+', '…', str(row[-1]))[:100]}" for row in ledger["attempt"] if row[-1])


def versions() -> dict[str, str]:
    return {
        "jobjar": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "sqlite": str(getattr(driver, "sqlite_version", sqlite3.sqlite_version)),
        "linux": os.uname().release.partition("-")[0],
    }


def read_runs(storm: Storm) -> list[Run]:
    runs = []
    for line in storm.log.read_text(encoding="utf-8").splitlines():
        uid, attempt, worker_uid, name = line.split()
        runs.append(Run(uid, int(attempt), worker_uid, name))
    return runs


def dump_home(storm: Storm, node: Node) -> Dump:
    """All that a node's ledger says, once it has folded what there is."""
    from jobjar.ledger.fold import fold_journals

    jar = open_jar(environment=node.environment)
    try:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            return dump_ledger(connection)
    finally:
        jar.close()


def judge_places(storm: Storm, places: set[str]) -> tuple[list[str], list[str]]:
    """Jobs that are not in completed, and jobs that are in more than one place."""
    where = defaultdict(list)
    for place in places:
        where[name_in_place(place)].append(place)
    lost = [name for name in storm.submitter.submitted if where[name] != [f"completed/{name}"]]
    lost += [name for name in storm.submitter.held if where[name] != [f"limbo/{name}"]]
    twice = [name for name, there in where.items() if len(there) > 1 or "~" in name]
    return lost, twice


def judge_finals(ledger: Dump, storm: Storm) -> tuple[list[str], dict[str, str]]:
    """Jobs with more final attempts than they were run anew (`jobjar retry` begins a new life); and those with none, or with an
    outcome that cannot be, and what it is."""
    finals = defaultdict(list)
    lives: Counter[str] = Counter()
    for uid, number, *_ in ledger.get("move", ()):
        lives[uid] = max(lives[uid], number // LIFE)
    for row in ledger["attempt"]:
        if row[9]:
            finals[row[0]].append(row[8])
    twice = []
    wrong = {}
    for row in ledger["job"]:
        uid, name, state = row[0], row[1], row[2]
        if state != "completed":
            continue
        if len(finals[uid]) > 1 + lives[uid]:
            twice.append(name)
        wanted = storm.submitter.submitted.get(name, "")
        if not finals[uid] or (wanted and not set(finals[uid]) <= {wanted, "killed", "crashed", CANCELLED}):
            wrong[name] = f"{name}: {finals[uid]} instead of {wanted or 'one'}"
    return twice, wrong


def judge_dependents(ledger: Dump, storm: Storm, runs: list[Run]) -> tuple[list[str], list[str]]:
    """Dependents that ran although nobody let them go on, and those that were cancelled without a reason. A prerequisite may have
    several ends, one for each time that it was retried: any may have been the one that counted."""
    outcomes = defaultdict(set)
    because = set()
    for row in ledger["attempt"]:
        if row[9]:
            outcomes[row[0]].add(row[8])
            if row[8] == CANCELLED and str(row[-1]).startswith(BECAUSE):
                because.add(row[0])
    uids = {row[1]: row[0] for row in ledger["job"]}
    ran = {run.name for run in runs}
    too_early, wrongly_cancelled = [], []
    for name, kinds in storm.submitter.prerequisites.items():
        ends = [(kind, outcomes[uid]) for kind, targets in kinds.items() for uid in targets]
        fits = [
            bool(found) if kind == "after_any" else any((end == SUCCEEDED) == (kind == "after") for end in found)
            for kind, found in ends
        ]
        fails = [
            kind != "after_any" and any((end == SUCCEEDED) != (kind == "after") for end in found)
            for kind, found in ends
        ]
        if name in ran and name not in storm.steerer.let_go and not all(fits):
            too_early.append(name)
        if uids.get(name) in because and not any(fails):
            wrongly_cancelled.append(name)
    return too_early, wrongly_cancelled


def judge_history(ledger: Dump, runs: list[Run], places: set[str]) -> list[Run]:
    """Attempts of completed jobs that ran and have no row, or one that does not know of their claim."""
    known = {(row[0], row[1], row[3]) for row in ledger["attempt"] if row[4] is not None}
    return [
        run for run in runs if f"completed/{run.name}" in places and (run.uid, run.attempt, run.worker_uid) not in known
    ]


def judge_ledgers(storm: Storm, dumps: dict[str, Dump]) -> list[str]:
    """All homes say the same; `jobjar check` is clean on each; a rebuilt ledger is equal."""
    problems = []
    first = dumps[storm.nodes[0].name]
    for node in storm.nodes:
        for table, rows in dumps[node.name].items():
            if rows != first[table]:
                differing = sorted(map(str, set(rows) ^ set(first[table])))
                problems.append(f"{node.name} and {storm.nodes[0].name} differ in {table}: {differing[:4]}")
        said = node.run("jobjar", "check")
        if said is None or said.status != 0:
            problems.append(f"jobjar check on {node.name}: {said and (said.output + said.errors)[-3000:]}")
        jar = open_jar(environment=node.environment)
        rebuild_ledger(jar.layout, jar.ledger_home)
        jar.close()
        for table, rows in dump_home(storm, node).items():
            if rows != dumps[node.name][table]:
                differing = sorted(map(str, set(rows) ^ set(dumps[node.name][table])))
                problems.append(f"rebuilt on {node.name}, {table} differs: {differing[:4]}")
    shown = storm.nodes[-1].run("system_status")
    if shown is None or shown.status != 0:
        problems.append(f"system_status fails: {shown and shown.errors}")
    return problems


def judge_leftovers(storm: Storm) -> list[str]:
    """Links, scratch directories, temporary files, held locks."""
    problems = [f"left in claimed/: {name}" for name in os.listdir(storm.layout.claimed)]
    for worker in os.listdir(storm.layout.workers):
        scratch = f"{storm.layout.workers}/{worker}/scratch"
        with contextlib.suppress(OSError):
            problems += [f"left in {worker}/scratch: {name}" for name in os.listdir(scratch)]
    for home in {storm.layout.ledger, *map(str, storm.ledger_homes())}:
        # A node killed while it published leaves the directory `publishing`, which is taken over after ten minutes. What it was
        # writing is of a PID namespace that nobody is in any more, and is removed after a day.
        problems += [
            f"left in {home}: {name}"
            for name in os.listdir(home)
            if ".new" in name and any(f"+{node.pid_namespace()}." in name for node in storm.nodes)
        ]
        for name in ("lock", "check_workers.lock"):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(f"{home}/{name}", os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    problems.append(f"{home}/{name} is still locked")
                os.close(descriptor)
    return problems[:20]


def processes_left(storm: Storm) -> list[str]:
    problems = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("JJ_HOME") == storm.layout.home and process.status() != psutil.STATUS_ZOMBIE:
                problems.append(f"still running: {process.pid} {process.cmdline()}")
    return problems


def tell_history(storm: Storm, name: str, places: set[str], ledger: Dump) -> str:
    """Everything that is known of a job."""
    uids = {row[0] for row in ledger["job"] + ledger["removed job"] if row[1] == name and row[0]}
    uids |= {run.uid for run in read_runs(storm) if run.name == name}
    lines = [f"history of {name} ({' '.join(sorted(uids)) or 'no id'}):"]
    lines += [f"  at {place}" for place in sorted(places) if name_in_place(place).startswith(name.partition(".")[0])]
    lines += [f"  ran: {run}" for run in read_runs(storm) if run.name == name]
    for path in journal_paths(storm.layout):
        for entry in entries_of(path):
            if entry.get("job") in uids or name in str(entry.get("to")) or entry.get("name") == name:
                lines.append(f"  {os.path.basename(path)}: {entry}")
    lines += [f"  ledger: {row}" for table in ledger.values() for row in table if uids & set(map(str, row))]
    for worker in sorted(os.listdir(storm.layout.workers)):
        with (
            contextlib.suppress(OSError),
            open(f"{storm.layout.workers}/{worker}/worker.log", errors="replace") as file,
        ):
            lines += [f"  {worker}: {line.rstrip()}" for line in file if name in line]
    return "\n".join(lines[:80])


def entries_of(path: str) -> Iterator[dict[str, Any]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for line in read_journal(descriptor, 0):
            if line.entry is not None:
                yield line.entry
    finally:
        os.close(descriptor)


def bad_lines_of_logs(storm: Storm) -> list[str]:
    """Tracebacks in workers' logs: an error that has no words of its own."""
    found = []
    for worker in sorted(os.listdir(storm.layout.workers)):
        with (
            contextlib.suppress(OSError),
            open(f"{storm.layout.workers}/{worker}/worker.log", errors="replace") as file,
        ):
            text = file.read()
            at = text.find("Traceback")
            if at >= 0:
                found.append(f"{worker}: {text[at : at + 2500]}")
    return found[:5]
