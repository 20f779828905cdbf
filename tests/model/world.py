"""A jar with several nodes in one process: each has a ledger home, workers that come and go, and people with hands.

Everything that is done is done by the project's own code on a real disk. Only what tells one process from another is
played: the node's name, process ids and their start times. A job is known by a line of its text, whatever it is called.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar import liveness
from jobjar.attempts import candidates
from jobjar.attempts.attempt import CANCELLED, KILLED, RETRIED_OUTCOMES, AttemptEnd, ClaimedJob, Claimer
from jobjar.attempts.verdict import decide
from jobjar.control import cancel_request, withdraw_cancel
from jobjar.create import create_jar
from jobjar.errors import JarError, NothingSelected, UsageError
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import new_id
from jobjar.layout import CANCELLING, TAKEN_HELD, Layout, name_in_place
from jobjar.ledger.ask_claiming import count_attempts
from jobjar.ledger.by_hand import FOUND
from jobjar.ledger.counts import find_wrong_counts
from jobjar.ledger.due import has_due
from jobjar.ledger.fold import fold_journal, fold_journals, journal_paths
from jobjar.ledger.judge_dependents import WAIT, judge_dependent
from jobjar.ledger.looks import look_at_small
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import dump_ledger, fill_ledger, open_fresh_in_memory, rebuild_ledger
from jobjar.ledger.reconcile_file import apply_difference, scan_category
from jobjar.ledger.reconcile_jar import compare_jars, reconcile, reconcile_in_pieces
from jobjar.ledger.snapshot import publish_snapshot
from jobjar.ledger.store import driver
from jobjar.recovery import orphans
from jobjar.recovery.recover import Recovery, recover_node, recover_worker
from jobjar.reports.check import check_jar
from jobjar.reports.refresh import refresh_ledger
from jobjar.roster import read_worker
from jobjar.selecting.selection import make_selection
from jobjar.shared_disk import moves, placeholder
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.files import is_job_file
from jobjar.shared_disk.listing import list_jars
from jobjar.stages.complete import Ending, WhileRefused, complete
from jobjar.stages.submit import describe_command, submit
from jobjar.steering import cancel
from jobjar.steering.dependents import fold_and_settle
from jobjar.steering.ended import Remove, Retry
from jobjar.steering.steer import Steered, steer
from jobjar.steering.verb import Verb
from jobjar.steering.waiting import Hold, Prioritize, Recategorize, Release
from jobjar.worker.directory import choose_worker_name, make_worker_directory
from tests.claiming import claim_in_turns
from tests.model.faults import Fault, Killed, fault_in

NODES = ("rain", "snow", "wind")
CATEGORIES = ("", "LINUX")
_KEY = re.compile(rb"# job ([0-9]+)\n")
_FAR_S = 1e6

VERBS: dict[str, Callable[[str], Verb]] = {
    "cancel": cancel.Cancel,
    "hold": Hold,
    "release": Release,
    "retry": Retry,
    "priority": lambda by: Prioritize(by, 5),
    "move": lambda by: Recategorize(by, "LINUX"),
    "remove": Remove,
}
Dump = dict[str, list[tuple[Any, ...]]]


class Body:
    """What plays a worker: a claimer with a directory, and the job that it believes it holds."""

    def __init__(self, node: str, pid: int, started: float, claimer: Claimer) -> None:
        self.node = node
        self.pid = pid
        self.started = started
        self.claimer = claimer
        self.job: ClaimedJob | None = None
        self.is_alive = True


class World:
    """The jar, its nodes, and what has to be true of its jobs."""

    def __init__(self, directory: Path, can_refuse: bool = True) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = directory
        self.layout = Layout(str(directory / "jar"))
        self.node = NODES[0]
        self.bodies: list[Body] = []
        self.processes: dict[int, float] = {}
        self.jars: dict[str, Jar] = {}
        # Jobs that have to be there, and those of them that completed.
        self.live: set[int] = set()
        self.completed: set[int] = set()
        # Places from which hands took files away.
        self.vacated: set[str] = set()
        # Jobs that a person cancelled while a worker held them that did not answer.
        self.asked: set[int] = set()
        # What was recorded: of each home that was not deleted since, and in the journals.
        self.recorded: dict[str, set[tuple[Any, ...]]] = {}
        self.keys = 0
        self.starts = 0
        self._play_processes()
        if not can_refuse:
            self.patch.setattr(moves, "_load_renameat2", lambda: None)
        create_jar(self.layout.home)

    def _play_processes(self) -> None:
        uname = os.uname

        def played() -> os.uname_result:
            real = uname()
            return os.uname_result((real.sysname, self.node, real.release, real.version, real.machine))

        self.patch.setattr(os, "uname", played)
        self._forget_this_process()
        self.patch.setattr(liveness, "boot_id", lambda: f"boot of {self.node}")
        self.patch.setattr(liveness, "process_start", lambda pid: self.processes.get(pid))
        self.patch.setattr(orphans, "processes_of_jobs", lambda worker, jobs, phases=None: [])
        # What the ledger said is believed until a rule says that it is old: not until some milliseconds have passed.
        self.patch.setattr(candidates, "_MAX_AGE_S", 1e9)
        # No worker here hears of anything while somebody waits for it.
        self.patch.setattr(cancel, "_END_WITHIN_S", -10.0)

    def close(self) -> None:
        for body in self.bodies:
            body.claimer.jar.close()
        for jar in self.jars.values():
            jar.close()
        self.patch.undo()
        self._forget_this_process()

    def _forget_this_process(self) -> None:
        """What is kept of this process and its node is of the one that is played, or of the real one."""
        for kept in (liveness.node_run, placeholder._prefix):
            kept.cache_clear()

    # Processes

    def open(self, node: str) -> Jar:
        environment = {
            "JJ_HOME": self.layout.home,
            "JJ_LEDGER_HOME": str(self.directory / f"home of {node}"),
            "JJ_CONFIG_FILE": os.devnull,
            "JJ_POLL_TIME": "1h",
            "JJ_CRASH_LIMIT": "3",
            "JJ_GRACE_TIME": "1",
            "JJ_EXIT_ON_FAILURE": "no",
        }
        return open_jar(environment=environment)

    @contextlib.contextmanager
    def on(self, node: str) -> Iterator[Jar]:
        """A program on a node, which may be killed."""
        before, self.node = self.node, node
        try:
            if node not in self.jars:
                self.jars[node] = self.open(node)
            yield self.jars[node]
        except Killed:
            self.jars.pop(node).close()
        finally:
            self.node = before

    @contextlib.contextmanager
    def acting(self, body: Body) -> Iterator[Jar]:
        """A worker does something, in which it may be killed."""
        before, self.node = self.node, body.node
        try:
            yield body.claimer.jar
        except Killed:
            self.kill(body)
        finally:
            self.node = before

    def kill(self, body: Body) -> None:
        body.is_alive = False
        body.job = None
        if self.processes.get(body.pid) == body.started:
            del self.processes[body.pid]
        body.claimer.jar.close()

    def start_worker(self, node: str, pid: int, fault: Fault | None) -> None:
        """A new worker; its process id may be that of one which is dead."""
        if pid in self.processes:
            return
        self.starts += 1
        started = float(self.starts)
        before, self.node = self.node, node
        jar = self.open(node)
        try:
            with fault_in(fault):
                claimer = self._make_worker(jar, node, pid, started)
            self.processes[pid] = started
            self.bodies.append(Body(node, pid, started, claimer))
        except Killed:
            jar.close()
        finally:
            self.node = before

    def _make_worker(self, jar: Jar, node: str, pid: int, started: float) -> Claimer:
        """As Worker.start does it."""
        identity = liveness.this_process()._replace(pid=pid, started=started)
        paths = jar.layout.worker(choose_worker_name(jar.layout, identity))
        claimer = Claimer(jar, new_id(), paths, (node, *CATEGORIES))
        make_worker_directory(jar, paths, identity, claimer.worker_id, ())
        return claimer

    def pick(self, number: int, alive: bool = True) -> Body | None:
        bodies = [body for body in self.bodies if body.is_alive == alive]
        return bodies[number % len(bodies)] if bodies else None

    def now(self) -> float:
        return read_disk_clock(self.layout.clock_file("model"))

    # What programs and workers do

    def submit(self, node: str, category: str, priority: int, attributes: dict[str, str], fault: Fault | None) -> None:
        key = self._new_key()
        returned = False
        with self.on(node) as jar, fault_in(fault):
            submit(jar, describe_command(f"# job {key}", priority, category or None, attributes=attributes))
            returned = True
        if returned or key in self.files():
            self.live.add(key)

    def submit_dependent(self, node: str, kind: str, number: int, fault: Fault | None) -> None:
        """A job that waits for another to end, as `kind` says: after, after_any, after_failed."""
        names = [name_in_place(place) for key, place in sorted(self.files().items()) if key in self.live]
        with self.on(node) as jar:
            refresh_ledger(jar)
        if names:
            # What a hand dropped has no id yet, and nobody can depend on it.
            with contextlib.suppress(JarError):
                self.submit(node, "", 0, {kind: names[number % len(names)]}, fault)

    def settle_dependents(self, node: str, fault: Fault | None, act: Callable[[], None] | None = None) -> None:
        """What a worker, a recovery and a wait do with dependents whose prerequisites have ended."""
        with self.on(node) as jar, fault_in(fault, act):
            fold_and_settle(jar)

    def check_dependents(self, node: str) -> None:
        """None waits for what has ended already."""
        with self.on(node) as jar:
            connection = jar.ledger.connection
            assert not has_due(connection)
            for (uid,) in connection.execute("SELECT uid FROM dependent_report").fetchall():
                judged = judge_dependent(connection, uid, {})
                assert judged is None or judged.word == WAIT, f"{uid} waits, and is to {judged.word}"

    def drop(self, name: str, category: str) -> None:
        """By hand, as the guide says: copy to limbo, move on."""
        key = self._new_key()
        written = Path(self.layout.limbo, name)
        target = Path(self.layout.category_directory(category), name)
        if written.exists() or target.exists():
            return
        written.write_text(f"#!/bin/sh\n# job {key}\n")
        written.chmod(0o755)
        target.parent.mkdir(exist_ok=True)
        written.rename(target)
        self.live.add(key)

    def _new_key(self) -> int:
        self.keys += 1
        return self.keys

    def claim(self, body: Body, late: bool, fault: Fault | None, act: Callable[[], None] | None = None) -> None:
        """`late`: so much later that every delay is over."""
        if body.job is not None:
            return
        with self.acting(body) as jar, fault_in(fault, act):
            now = self.now() + (_FAR_S if late else 0)
            job = claim_in_turns(body.claimer, now, lambda line: None)
            if job is None:
                with jar.ledger.writing() as connection:
                    fold_journals(connection, jar.layout)
                    for category in body.claimer.categories:
                        scan_category(connection, jar.layout, category, open_journal=jar.open_journal)
                body.claimer.proposals.stale_at = 0
                job = claim_in_turns(body.claimer, now, lambda line: None)
            body.job = job

    def complete(
        self, body: Body, outcome: str, fault: Fault | None, act: Callable[[], None] | None = None
    ) -> bool | None:
        """Whether the worker still held its job; None where it was killed or had none."""
        job, held = body.job, None
        if job is None:
            return None
        status = {"succeeded": 0, "failed": 1}.get(outcome)
        end = AttemptEnd(outcome, status, None if status is not None else 15, 0.1, 0.1, 0.1, 1000)
        cancelled = cancel_request(body.claimer.paths, job.uid, (job.attempt,)) if outcome == KILLED else None
        if cancelled is not None:
            end = end._replace(outcome=CANCELLED, message=cancelled)
        with self.acting(body) as jar, fault_in(fault, act):
            failures = 0
            if outcome in RETRIED_OUTCOMES and job.retries:
                with jar.ledger.writing() as connection:
                    fold_journals(connection, jar.layout)
                    failures = count_attempts(connection, job.uid, RETRIED_OUTCOMES)
            verdict = decide(job, end, failures, self.now())
            held = complete(
                body.claimer,
                Ending(job, end, verdict, self.now()),
                WhileRefused(lambda: False, lambda line: None),
            )
            if end.outcome == CANCELLED:
                withdraw_cancel(jar.layout, body.claimer.paths.name, job.uid)
        body.job = None
        if held and end.outcome != CANCELLED:
            self.asked -= {key for key, place in self.files().items() if job.name == name_in_place(place)}
        return held

    def recover(self, node: str, fault: Fault | None, act: Callable[[], None] | None = None) -> None:
        with self.on(node) as jar, fault_in(fault, act):
            recover_node(jar)

    def take_back(self, node: str, body: Body, fault: Fault | None = None) -> None:
        """Another node thinks that a worker is dead."""
        with self.on(node) as jar, fault_in(fault):
            worker = read_worker(self.layout, body.claimer.paths.name)
            if worker is not None:
                recover_worker(jar, worker, Recovery())

    # What people do with jobs

    def steer(
        self, node: str, verb: str, number: int, fault: Fault | None, act: Callable[[], None] | None = None
    ) -> None:
        """Do something to a job, with the program of that name."""
        files = {key: place for key, place in self.files().items() if key in self.live}
        if not files:
            return
        key = sorted(files)[number % len(files)]
        name = name_in_place(files[key])
        steered = Steered([], [], [], {})
        with self.on(node) as jar, fault_in(fault, act), contextlib.suppress(UsageError, NothingSelected):
            refresh_ledger(jar)
            steered = steer(jar, make_selection([name]), VERBS[verb]("ann"))
        if verb in ("retry", "remove"):
            self.completed.discard(key)
            self.asked.discard(key)
        if verb == "remove" and key not in self.files():
            self.live.discard(key)
        if any("was asked to end it" in str(error) for error in steered.errors):
            self.asked.add(key)

    # What people do with ledgers

    def fold(self, node: str, number: int, limit: int | None) -> None:
        with self.on(node) as jar, jar.ledger.writing() as connection:
            paths = journal_paths(self.layout)
            if paths:
                fold_journal(connection, paths[number % len(paths)], limit)

    def reconcile(self, node: str, with_completed: bool) -> None:
        with self.on(node) as jar:
            if with_completed:
                reconcile_in_pieces(jar.ledger, self.layout, open_journal=jar.open_journal)
            else:
                look_at_small(jar.ledger, self.layout, open_journal=jar.open_journal)

    def scan(self, connection: Any) -> None:
        """Look at the directories without reading a journal."""
        for difference in compare_jars(connection, self.layout, list_jars(self.layout)):
            apply_difference(connection, difference)

    def delete_ledger(self, node: str, with_wal: bool) -> None:
        path = str(self.directory / f"home of {node}" / "ledger.db")
        for suffix in ("", "-wal", "-shm") if with_wal else ("",):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)
        self.recorded.pop(node, None)

    def delete_home(self, node: str) -> None:
        """Only where nobody works with it."""
        if any(body.is_alive and body.node == node for body in self.bodies):
            return
        if node in self.jars:
            self.jars.pop(node).close()
        shutil.rmtree(self.directory / f"home of {node}", ignore_errors=True)
        self.recorded.pop(node, None)

    def rebuild(self, node: str, fault: Fault | None) -> None:
        with self.on(node) as jar, fault_in(fault):
            rebuild_ledger(jar.layout, jar.ledger_home)
        if not (self.directory / f"home of {node}" / "ledger.db").exists():
            self.recorded.pop(node, None)  # killed when the old one was gone, and the new one not there yet

    def publish(self, node: str, fault: Fault | None) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(self.layout.publishing)  # ten minutes after a publisher was killed
        with self.on(node) as jar, fault_in(fault):
            publish_snapshot(jar.ledger, older_than_s=0)

    # What people do with files

    def move_by_hand(self, number: int, to: str, new_name: str | None) -> None:
        """Move some job's file to limbo, completed, or a category ('unclaimed/…'), perhaps under another name."""
        files = self._files_for_hands(self.live)
        if not files:
            return
        key = sorted(files)[number % len(files)]
        source = self.layout.path(files[key])
        name = name_in_place(files[key])
        if new_name is not None:
            name = new_name
        if not is_job_file(os.lstat(source)) or os.path.lexists(target := f"{self.layout.home}/{to}/{name}"):
            return
        if new_name is not None and f"{to}/{name}" in self.vacated:
            return  # DESIGN.md, "Simplifications": who takes the place of a job without an id is taken for it
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)
        self.vacated.add(files[key])
        self.completed.discard(key)
        self.asked.discard(key)

    def delete_by_hand(self, number: int) -> None:
        files = self._files_for_hands(set(self.files()))
        if files:
            key = sorted(files)[number % len(files)]
            os.unlink(self.layout.path(files[key]))
            self.vacated.add(files[key])
            self.live.discard(key)
            self.completed.discard(key)
            self.asked.discard(key)

    def _files_for_hands(self, keys: set[int]) -> dict[int, str]:
        """Where these jobs are, without those that a cancellation has taken."""
        return {key: place for key, place in self.files().items() if key in keys and CANCELLING not in place}

    # What has to be true

    def files(self) -> dict[int, str]:
        """Where each job is, also within a cancellation's directory. Nothing may be in two places."""
        found: dict[int, str] = {}
        places = {place for place in list_jars(self.layout) if os.path.lexists(self.layout.path(place))}
        for place in sorted(places | self._taken_places().keys()):
            key = self.key_of(self.layout.path(place))
            if key is None:
                # Half a copy, or what holds a name for a moment where a rename cannot refuse to overwrite.
                assert not is_job_file(os.lstat(self.layout.path(place))), place
                continue
            assert key not in found, f"job {key} is at {found[key]} and at {place}"
            found[key] = place
        return found

    def key_of(self, path: str) -> Any:
        """Which job a file is; None: it is none."""
        match = _KEY.search(Path(path).read_bytes())
        return None if match is None else int(match.group(1))

    def _taken_places(self) -> dict[str, str]:
        """The files that cancellations have taken; for each the place that journals have for it."""
        found = {}
        for path in Path(self.layout.limbo).glob(f"{CANCELLING}*/*/**/*"):
            if path.is_file():
                _, _, kind, *rest = path.relative_to(self.layout.home).parts
                found[str(path.relative_to(self.layout.home))] = "/".join(
                    ("limbo" if kind == TAKEN_HELD else "unclaimed", *rest)
                )
        return found

    def check_jobs(self) -> None:
        """Every job is there, and what completed stays completed."""
        files = self.files()
        assert self.live <= set(files), f"lost: {self.live - set(files)}"
        done = {key for key, place in files.items() if place.startswith("completed/")}
        assert self.completed <= done, f"completed and gone on: {[files[key] for key in self.completed - done]}"
        self.completed = done

    def check_ledgers(self) -> None:
        """In whatever order a ledger read the journals, once it has read all and looked at the directories it says what
        every other says, and forgets nothing."""
        fresh = open_fresh_in_memory(self.layout)
        expected = dump_ledger(fresh)
        fresh.close()
        self._check_agrees("read in the other order", expected, self._folded_backwards())
        self._check_keeps("journals", expected)
        for node in NODES:
            path = self.directory / f"home of {node}" / "ledger.db"
            if path.exists():
                copy = self._copy(path)
                if copy is not None:
                    self._check_keeps(node, dump_ledger(copy))
                    self._check_agrees(f"home of {node}", expected, self._brought_up_to_date(copy))
        files = self.files()
        taken = self._taken_places()
        places = {taken.get(place, place) for place in files.values() if is_job_file(os.lstat(self.layout.path(place)))}
        listed = [row[3] for row in expected["job"] if self._has_job(row[3])]
        assert sorted(listed) == sorted(places), f"in the ledger {listed}, on the disk {places}"

    def _has_job(self, place: str) -> bool:
        """Whether a place is to have a job's file: of a job that lost its own a note tells, or it is with its worker still."""
        path = Path(self.layout.path(place))
        if path.exists():
            return not path.read_text().startswith("This job, ")
        return not place.startswith("workers/")

    def _folded_backwards(self) -> Dump:
        connection = driver.connect(":memory:", isolation_level=None)
        migrate(connection, ":memory:")
        connection.execute("BEGIN")
        for path in reversed(journal_paths(self.layout)):
            while fold_journal(connection, path, limit=3):
                pass
        return self._brought_up_to_date(connection)

    def _brought_up_to_date(self, connection: Any) -> Dump:
        reconcile(connection, self.layout)
        left = compare_jars(connection, self.layout, list_jars(self.layout))
        assert not left, f"still different after reconciling: {left}"
        assert find_wrong_counts(connection) == []
        dump = dump_ledger(connection)
        connection.close()
        return dump

    def _copy(self, path: Path) -> Any:
        """A copy of a home's ledger in memory: looking changes nothing. None where it was not made yet."""
        source = driver.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        try:
            if not source.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone():
                return None
            copy = driver.connect(":memory:", isolation_level=None)
            source.backup(copy)
        finally:
            source.close()
        return copy

    def _check_agrees(self, who: str, expected: Dump, got: Dump) -> None:
        for table, rows in expected.items():
            only_here, only_there = set(got[table]) - set(rows), set(rows) - set(got[table])
            assert not only_here and not only_there and len(rows) == len(got[table]), (
                f"{who}, table {table}: has {sorted(only_here, key=repr)}, a rebuild has {sorted(only_there, key=repr)}"
            )

    def _check_keeps(self, who: str, dump: Dump) -> None:
        """Moves, attempts and ends of attempts that were recorded once stay. Of a move that was found its program may say more
        later, and of several that noticed a removal the earliest time is kept."""
        now = {("moved", uid, number, to and at, to) for uid, number, at, _, to, _, _ in dump["move"]}
        now |= {("move", *row) for row in dump["move"] if row[5] != FOUND}
        now |= {("attempt", *row[:4]) for row in dump["attempt"]}
        now |= {("ended", *row[:2], row[3]) for row in dump["attempt"] if row[8] is not None}
        now |= {("lost", *row[:2], row[3]) for row in dump["attempt"] if row[8] == "lost"}
        gone = self.recorded.get(who, set()) - now
        assert not gone, f"{who} forgot {gone}"
        self.recorded[who] = now

    def settle(self) -> None:
        """All workers are gone, every node has recovered: nothing is held, every home's check is clean."""
        for body in self.bodies:
            if body.is_alive:
                self.kill(body)
        for _ in range(2):  # the second sees what the others did
            for node in NODES:
                self.recover(node, None)
        for place in self.files().values():
            assert not place.startswith("workers/"), f"{place} was not recovered"
        for _ in range(2):
            for node in NODES:
                self.settle_dependents(node, None)
        self.check_jobs()
        assert self.asked <= self.completed, f"cancelled, and not ended: {self.asked - self.completed}"
        self.check_ledgers()
        for node in NODES:
            self.check_dependents(node)
            with self.on(node) as jar:
                fill_ledger(jar.ledger)
                lines = check_jar(jar)
                assert not lines, f"check at {node}: {lines}"
