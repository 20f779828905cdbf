"""What the children of the crash tests do with arrays. Each function is one order to the nursery, as those of scenarios.py."""

from __future__ import annotations

import os
import signal
from typing import Any

from jobjar.arrays import run_chunk, task_log
from jobjar.arrays.indexes import parse_array
from jobjar.arrays.orders import Order, give_order
from jobjar.arrays.retry import retry_tasks
from jobjar.arrays.submit import Plan, submit_array
from jobjar.arrays.world import World
from jobjar.control import request_task_kill
from jobjar.errors import NotSteered
from jobjar.jar import Jar
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_arrays import array_of, ends_of_tasks, open_chunks, other_ends_of_task
from jobjar.ledger.fold import fold_journals
from jobjar.stages.submit import describe_command
from jobjar.worker.loop import LOOKING, RAN, Worker
from tests.crash import scenarios


def submit_tasks(command: str, array: str, chunk: int, entries: list[str] | None = None, **attributes: Any) -> str:
    """jobjar submit --array; returns the array's id."""

    def run(jar: Jar) -> str:
        indexes, at_once = parse_array(array)
        lines = None if entries is None else [entry.encode() for entry in entries]
        submission = describe_command(command, 3, "SOME", attributes=attributes)
        return submit_array(jar, Plan(submission, indexes, "" if lines is None else "lines", lines, at_once, chunk))

    return scenarios._with_jar(run)


def work_tasks(journal_each: bool = True) -> int:
    """`work`, by a worker that journals the end of each task at once, so that more of its writes are between others."""
    if journal_each:
        task_log._MOST = 1
    return scenarios.work()


def work_and_share() -> int:
    """`work`, by a worker that takes others for idle, looks after each task, and so gives half of the rest away each time."""
    os.environ["JJ_POLL_TIME"] = "0.000001"
    vars(run_chunk)["HELD_S"] = 0.0
    vars(run_chunk)["find_idle"] = lambda *_: "another"
    return work_tasks()


def work_until(order: str) -> int:
    """`work`, by a worker that is told to leave while a task runs: the task has made the file that says so."""
    os.environ["JJ_POLL_TIME"] = "0.000001"

    def run(jar: Jar) -> int:
        worker = Worker(jar, ("MANY", "SOME"), lambda line: None)
        begin = World.start

        def start(world: World, index: int, attempt: int, is_piped: bool) -> int:
            if index == 3 and order == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            elif index == 3:
                path = worker.paths.stop_file if order == "STOP" else worker.paths.pause_file
                with open(path, "w", encoding="utf-8"):
                    pass
            return begin(world, index, attempt, is_piped)

        World.start = start  # type: ignore[method-assign, assignment]
        worker.start()
        while worker.step() in (RAN, LOOKING):
            pass
        worker.finish("it was told to leave")
        return 0

    return scenarios._with_jar(run)


def retry_failed(array: str) -> int:
    """jobjar retry ARRAY --failed; returns how many tasks."""

    def run(jar: Jar) -> int:
        try:
            return len(retry_tasks(jar, array))
        except NotSteered:
            return 0

    return scenarios._with_jar(run)


def look_at_tasks() -> dict[str, Any]:
    """For each array its counts, the outcome that stands of each task, and how many other final ends each has in its life."""

    def run(jar: Jar) -> dict[str, Any]:
        found = {}
        for uid in sorted(os.listdir(jar.layout.batches)):
            with jar.ledger.writing() as connection:
                array = array_of(connection, uid)
                if array is None:
                    continue
                ends = list(ends_of_tasks(connection, array.id, 0, 10**15))
                found[uid] = {
                    "tasks": array.tasks,
                    "counts": [array.succeeded, array.failed],
                    "ends": {end.number: end.outcome for end in ends},
                    "others": {end.number: len(other_ends_of_task(connection, array.id, end.number)) for end in ends},
                }
        return found

    return scenarios._with_jar(run)


def work_while_told(order: str) -> int:
    """`work_tasks`; while task 3 runs, somebody has it cancelled, and task 5 with it, or has it killed."""
    os.environ["JJ_POLL_TIME"] = "0.01"
    begin, told = World.start, list[int]()

    def start(world: World, index: int, attempt: int, is_piped: bool) -> int:
        pid = begin(world, index, attempt, is_piped)
        if index == 3 and not told:
            told.append(pid)
            _tell(order)
        return pid

    World.start = start  # type: ignore[method-assign, assignment]
    return work_tasks()


def _tell(order: str) -> None:
    def run(jar: Jar) -> None:
        [uid] = os.listdir(jar.layout.batches)
        if order == "cancel":
            give_order(jar, uid, "anorder00000", Order([[3, 3], [5, 5]], 0, "cancelled by somebody"))
            return
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            [chunk] = open_chunks(connection, uid, only_claimed=True)
        worker, attempts = str(worker_of_place(chunk.place)), max(1, chunk.attempts)
        request_task_kill(jar.layout, worker, str(chunk.uid), attempts, 3)

    scenarios._with_jar(run)
