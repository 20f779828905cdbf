"""What the children of the crash tests do with the jar that JJ_HOME names. Each function is one order to the nursery."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psutil

from jobjar import control, roster
from jobjar.arrays.indexes import Indexes
from jobjar.arrays.submit import Plan, submit_array
from jobjar.attempts import limits
from jobjar.batches import abort, edit
from jobjar.batches.submit import submit_batches
from jobjar.batches.submit_file import parse_submit_file
from jobjar.create import create_jar
from jobjar.described import overlap as overlap
from jobjar.errors import LedgerUnavailable, NothingSelected
from jobjar.host import login
from jobjar.jar import Jar, open_jar
from jobjar.job_file.description import storage_category
from jobjar.journal.read import open_to_read, read_journal
from jobjar.layout import Layout
from jobjar.ledger.ask_pilots import pilots_of
from jobjar.ledger.fold import journal_paths
from jobjar.ledger.rebuild import fill_ledger, rebuild_ledger
from jobjar.ledger.snapshot import publish_snapshot
from jobjar.ledger.store import check_database
from jobjar.liveness import process_start
from jobjar.nightly import rotation
from jobjar.nightly.night import run_nightly
from jobjar.pilots import judge, pilot as pilot_files, queue as pilot_queue, turn
from jobjar.publishing import outputs, storage, underway
from jobjar.recovery.recover import recover_node, set_aside
from jobjar.reports.check import check_jar
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.selection import make_selection
from jobjar.shared_disk import moves
from jobjar.shared_disk.listing import list_jars
from jobjar.stages.submit import describe_command, describe_file, submit, submit_all
from jobjar.steering import steer as steering
from jobjar.steering.cancel import Cancel
from jobjar.steering.ended import Remove, Retry
from jobjar.steering.verb import Verb
from jobjar.steering.waiting import Hold, Prioritize, Recategorize, Release
from jobjar.typed_job import describe_words
from jobjar.worker.daemon import run_in_foreground
from jobjar.worker.directory import make_worker_directory
from jobjar.worker.loop import IDLE, LOOKING, RAN, Worker

T = TypeVar("T")
VERBS: dict[str, Callable[..., Verb]] = {
    "cancel": Cancel,
    "hold": Hold,
    "release": Release,
    "remove": Remove,
    "retry": Retry,
    "priority": Prioritize,
    "move": Recategorize,
}

# Idle turns in a row after which a worker of a test leaves; a delayed job would need more.
_PATIENCE_TURNS = 2


def make_jar() -> None:
    """Make the jar itself."""
    create_jar(os.environ["JJ_HOME"])


def submit_command(command: str, **options: Any) -> list[str]:
    """Submit one command; returns its name in a list."""
    return [_with_jar(lambda jar: submit(jar, describe_command(command, **options)))]


def submit_typed(line: str, **attributes: Any) -> list[str]:
    """Submit a line as `jobjar submit` does; returns its name in a list."""
    return [_with_jar(lambda jar: submit(jar, describe_words([line], attributes=attributes)))]


def submit_held_array(line: str) -> list[str]:
    """Submit an array of two chunks that is held; returns no job's name, since none of them runs."""
    submission = describe_words([line], attributes={"hold": True})
    _with_jar(lambda jar: submit_array(jar, Plan(submission, Indexes(1, 4), chunk=2)))
    return []


def submit_file(path: str, **options: Any) -> list[str]:
    """Submit one file; returns its name in a list."""
    return [_with_jar(lambda jar: submit(jar, describe_file(path, **options)))]


def submit_commands(commands: list[str]) -> list[str]:
    """Submit several commands at once; returns their names."""
    return _with_jar(lambda jar: submit_all(jar, [describe_command(command, 3, "MANY") for command in commands]))


def submit_batch(text: str, where: str = "batch") -> list[str]:
    """submit_batch of a file with this text; returns the batches' names."""
    return _with_jar(
        lambda jar: [submitted.name for submitted in submit_batches(jar, parse_submit_file(text, where, {}))],
    )


def edit_batch(name: str, **changes: str) -> int:
    """batch_edit; returns how many jobs were submitted."""
    return _with_jar(lambda jar: edit.edit_batch(jar, name, changes).jobs)


def abort_batch(name: str, restart: bool = False, kill: bool = False) -> list[int]:
    """abort_batch; returns how many jobs were cancelled and restarted."""

    def run(jar: Jar) -> list[int]:
        done = abort.abort_batch(jar, name, restart, kill)
        return [done.cancelled, done.restarted]

    return _with_jar(run)


def steer(verb: str, values: tuple[Any, ...] = (), words: tuple[str, ...] = ()) -> list[str]:
    """A verb that steers jobs, done to those that are named or to all; returns what it could not do."""

    def run(jar: Jar) -> list[str]:
        refresh_ledger(jar)
        selection = make_selection(words, is_all=not words)
        try:
            return [str(error) for error in steering.steer(jar, selection, VERBS[verb](login(), *values)).errors]
        except NothingSelected as error:
            return [str(error)]

    return _with_jar(run)


def store(classes: tuple[str, ...] = ("tape",)) -> int:
    """Be a storage worker until there is nothing to do; returns how often it found something."""
    return work(tuple(storage_category(name) for name in classes), is_storage=True)


def work(categories: tuple[str, ...] = ("MANY", "SOME"), is_storage: bool = False) -> int:
    """Be a worker until there is nothing to do; returns how many jobs it ran (described ones together count once)."""

    def run(jar: Jar) -> int:
        said: list[str] = []
        worker = Worker(jar, tuple(categories), said.append, is_storage=is_storage)
        worker.start()
        ran = idle = 0
        while idle < _PATIENCE_TURNS:
            result = worker.step()
            # On a busy machine a turn may end before it has looked at all jobs.
            assert result in (RAN, IDLE, LOOKING), (result, said)
            ran += result == RAN
            idle = idle + 1 if result == IDLE else 0
            if result == IDLE and (due_s := worker._next_job.until_due_s()) < 60:
                time.sleep(due_s)  # a retry that is delayed
                idle = 0
        worker.finish("nothing to do")
        return ran

    return _with_jar(run)


def work_without_renameat2() -> int:
    """`work` on a disk that has no rename that refuses to overwrite."""
    moves._load_renameat2 = lambda: None
    return work()


def several(scenarios: list[str]) -> list[Any]:
    """Each of these, one after the other: a child for each would take as long again as what they do."""
    return [globals()[scenario]() for scenario in scenarios]


def recover() -> list[str]:
    """recover_jobs, with its repair; returns what it said."""

    def run(jar: Jar) -> list[str]:
        said: list[str] = []
        recovery = jar.ledger.repaired(lambda: recover_node(jar), fill_ledger, said.append)
        return said + recovery.lines

    return _with_jar(run)


def be_a_worker_that_is_stopped() -> None:
    """start_worker in the foreground, from its start to its end, when all workers are to stop."""

    def run(jar: Jar) -> None:
        def stop_all(name: str) -> None:
            with open(jar.layout.stop_all_file, "w", encoding="utf-8"):
                pass

        run_in_foreground(jar, (), ready=stop_all)
        os.unlink(jar.layout.stop_all_file)

    _with_jar(run)


def let_workers_start() -> None:
    """Take back what a killed `be_a_worker_that_is_stopped` left in the way."""

    def run(jar: Jar) -> None:
        for path in (jar.layout.stop_all_file, jar.layout.pause_all_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    _with_jar(run)


def control_workers(verb: str) -> list[str]:
    """stop_worker, pause_worker, unpause_worker of all: two workers that this process pretends to be."""

    def run(jar: Jar) -> list[str]:
        verbs = {"stop": control.stop, "pause": control.pause, "unpause": control.unpause}
        return verbs[verb](jar.layout, [control.ALL])[0]

    return _with_jar(run)


def make_two_workers() -> None:
    """Two workers' directories whose worker is the nursery: alive for as long as the test runs."""

    def run(jar: Jar) -> None:
        process = psutil.Process(os.getppid())
        for number in (1, 2):
            worker = Worker(jar, (), lambda line: None)
            worker.name = f"{worker.identity.node}.{process.pid}{number}"
            worker.paths = jar.layout.worker(worker.name)
            started = process_start(process.pid)
            assert started is not None
            worker.identity = worker.identity._replace(pid=process.pid, started=started)
            make_worker_directory(jar, worker.paths, worker.identity, worker.claimer.worker_id, ())

    _with_jar(run)


def set_dead_workers_aside() -> None:
    """What a worker does that finds a directory of its own name: recover it and set it aside."""

    def run(jar: Jar) -> None:
        for worker in roster.list_workers(jar.layout):
            if not worker.set_aside:
                set_aside(jar, worker)

    _with_jar(run)


def publish() -> bool:
    """Publish a snapshot from a ledger home outside of the jar."""
    os.environ["JJ_LEDGER_HOME"] = f"{os.path.dirname(os.environ['JJ_HOME'])}/home"
    return _with_jar(lambda jar: publish_snapshot(jar.ledger, older_than_s=0))


def publish_again() -> bool:
    """Publish when what a killed publication left has become old."""
    layout = Layout(os.environ["JJ_HOME"])
    if os.path.isdir(layout.publishing):
        os.utime(layout.publishing, (0, 0))
    assert publish()
    check_database(layout.snapshot)
    return not os.path.lexists(layout.publishing)


def nightly(keep_days: str = "0") -> list[str]:
    """recover_jobs --nightly, with everything that has ended archived, large or small journals rotated and those that
    ended compressed; returns its warnings."""
    os.environ.update({"JJ_ARCHIVE_AFTER": "0.000000001", "JJ_KEEP_COMPLETED": keep_days, "JJ_KEEP_WORKERS": keep_days})
    rotation.ROTATE_BYTES, rotation.QUIET_S = 1, -1.0
    return _with_jar(lambda jar: run_nightly(jar).warnings)


def rebuild() -> None:
    """jobjar rebuild."""
    _with_jar(lambda jar: rebuild_ledger(jar.layout, jar.ledger_home))


def check() -> list[str]:
    """jobjar check: each difference, as a line."""

    def run(jar: Jar) -> list[str]:
        try:
            return check_jar(jar)
        except LedgerUnavailable as error:
            return [str(error)]

    return _with_jar(run)


def look() -> dict[str, Any]:
    """What the directories and the journals say: places, entries, links."""

    def run(jar: Jar) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        for path in journal_paths(jar.layout):
            with open_to_read(path) as journal:
                entries += [line.entry for line in read_journal(journal, 0) if line.entry is not None]
        return {
            "places": sorted(list_jars(jar.layout)),
            "entries": entries,
            "links": sorted(os.listdir(jar.layout.claimed)),
            "ledger": sorted(os.listdir(jar.layout.ledger)),
        }

    return _with_jar(run)


def processes() -> list[str]:
    """The processes that were started in this jar, by their environment; their command lines."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("JJ_HOME") == os.environ["JJ_HOME"] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(json.dumps(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


def _with_jar(action: Callable[[Jar], T]) -> T:
    jar = open_jar()
    try:
        return action(jar)
    finally:
        jar.close()


def damage_ledger() -> None:
    """Overwrite the ledger's pages, as a bad disk would."""

    def run(jar: Jar) -> None:
        path = jar.ledger_home.database
        size = os.stat(path).st_size
        with open(path, "r+b") as file:
            file.write(os.urandom(size))

    _with_jar(run)


def publish_outputs(directory: str, work: str) -> list[str]:
    """Publish what is in a working directory, as the attempt that `directory` is named for; returns the files' names."""
    uid = os.path.basename(os.path.dirname(directory))
    attempt, _, worker_uid = os.path.basename(directory).partition(".")
    state = underway.State(underway.STORE, uid, "the.job", int(attempt), "rain.7", worker_uid, "", "succeeded", 0)
    return [file.name for file in outputs.publish(directory, work, state).files]


def store_published(uid: str, store: str) -> list[str]:
    """Store what a job's attempt published; returns where the files are."""
    layout = Layout(os.environ["JJ_HOME"])
    state = underway.find_state(layout, uid)
    assert state is not None
    published = outputs.finish_publishing(underway.state_directory(layout, state))
    return [
        storage.store_file(f"{published}/{file.name}", file, store, "run")["storage_hfn"].partition(":")[2]
        for file in state.files
    ]


def remove_underway(uid: str) -> None:
    """Remove what a job's attempts kept in the jar."""
    underway.remove_underway(Layout(os.environ["JJ_HOME"]), uid)


def set_limit(kind: str, name: str, count: int | None) -> None:
    """workload_limit."""
    _with_jar(lambda jar: limits.set_limit(jar, kind, name, count))


def look_at_limits() -> dict[str, Any]:
    """What the directories of limits say: faults, who holds tokens, and how many each allows and has free."""

    def run(jar: Jar) -> dict[str, Any]:
        return {
            "faults": limits.find_faults(jar.layout),
            "taken": [token.path(jar.layout) for token in limits.list_all_taken(jar.layout)],
            "limits": {state.key: [state.most, len(state.free)] for state in limits.list_limits(jar.layout)},
        }

    return _with_jar(run)


def add_pilots(**more: Any) -> None:
    """jobjar pilots add."""

    def run(jar: Jar) -> None:
        plan = pilot_queue.Plan("night", "slurm", (), 120.0, 90.0, 3, 2, 60.0, 3, **more)
        pilot_queue.add_queue(jar, plan)

    _with_jar(run)


def take_turn(path: str, listed_after_s: float = 60.0) -> list[str]:
    """check_pilots, with the programs of a batch system in `path`; returns what it said. A lock that a dead process left counts
    as abandoned."""
    os.environ["PATH"] = f"{path}:{os.environ['PATH']}"
    judge.LISTED_AFTER_S = listed_after_s
    turn._ABANDONED_AFTER_S = 0.0
    said: list[str] = []
    _with_jar(lambda jar: turn.take_turns(jar, said.append, said.append))
    return said


def look_at_pilots() -> dict[str, Any]:
    """The states of pilots that are out, by their files and by the ledger; and what lies in open/ that is none."""

    def run(jar: Jar) -> dict[str, Any]:
        refresh_ledger(jar)
        paths = jar.layout.pilot_queue("night")
        rows = pilots_of(jar.ledger.connection, "night")
        return {
            "files": {pilot.name: pilot.state for pilot in pilot_files.open_pilots(paths)},
            "ledger": {row.name: row.state for row in rows},
            "others": sorted(name for name in os.listdir(paths.open) if not name.isdecimal()),
        }

    return _with_jar(run)
