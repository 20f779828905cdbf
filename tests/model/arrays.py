"""A jar with arrays: their submission, chunks that are run in part, shared, given back and retried, and orders to tasks.

The tasks are played: none is a process. All else is the project's own code (arrays/run_chunk.py), which may be killed at any
write.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobjar.arrays import run_chunk
from jobjar.arrays.definition import Definition, read_usable
from jobjar.arrays.indexes import parse_array, range_in_name
from jobjar.arrays.retry import retry_tasks
from jobjar.arrays.run_chunk import ChunkRun
from jobjar.arrays.submit import Plan, submit_array
from jobjar.attempts.attempt import CHUNK, ClaimedJob
from jobjar.attempts.workplace import Workplaces
from jobjar.errors import JarError
from jobjar.job_file.names import id_in_name
from jobjar.layout import LEAVING
from jobjar.ledger.ask_arrays import array_of, chunks_cut_short, ended_numbers
from jobjar.ledger.fold import fold_journals
from jobjar.processes.starting import CannotStart
from jobjar.processes.waits import block
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.selection import make_selection
from jobjar.stages.complete import Ending, WhileRefused, complete
from jobjar.stages.submit import describe_command
from jobjar.steering import tasks as steering_of_tasks
from jobjar.steering.cancel import Cancel
from jobjar.steering.steer import steer
from tests.model.faults import Fault, fault_in
from tests.model.world import NODES, Body, World

_ARRAY = re.compile(rb"#JJ array = ([0-9a-z]{12})")
# These fail at their first attempt in their first life.
FAILING = (2, 5)


class _Watch:
    """Nobody tells the worker anything, and it looks after each task."""

    interval_s = 0.0

    def after_start(self) -> None: ...

    def descriptors(self) -> list[int]:
        return []

    def is_told_to_end(self) -> bool:
        return False

    def reason(self, job: ClaimedJob) -> str | None:
        return None

    def take_killed_task(self) -> int | None:
        return None


class _Played:
    """In the place of arrays/world.World: a task has ended when it is started."""

    def __init__(self, _workplaces: object, job: ClaimedJob, _definition: Definition, *_: object) -> None:
        self._life = job.seed or 0

    def start(self, index: int, attempt: int, is_piped: bool) -> int:
        raise CannotStart(int(index in FAILING and attempt == 1 and not self._life), "")

    def take_note(self, index: int) -> None: ...

    def finish_output(self) -> None: ...

    def close(self) -> None: ...


class ArrayWorld(World):
    """The jar, and what has to be true of its tasks. A job is known by the id of its chunk."""

    def __init__(self, directory: Path, can_refuse: bool = True) -> None:
        super().__init__(directory, can_refuse)
        self.has_idle = False
        self.patch.setattr(run_chunk, "World", _Played)
        self.patch.setattr(run_chunk, "HELD_S", 0.0)
        self.patch.setattr(run_chunk, "find_idle", lambda *_: "another" if self.has_idle else None)
        self.patch.setattr(steering_of_tasks, "_END_WITHIN_S", -1e9)
        # The ends of tasks that each ledger has had: array, index, life.
        self.ended: dict[str, set[tuple[str, int, int]]] = {}

    def arrays(self) -> list[str]:
        """The arrays whose submission was committed, the first first."""
        found = [path for path in Path(self.layout.batches).iterdir() if (path / "batch.json").exists()]
        return [path.name for path in sorted(found, key=lambda path: (path / "array").stat().st_mtime_ns)]

    def pick_array(self, number: int) -> str | None:
        arrays = self.arrays() if os.path.isdir(self.layout.batches) else []
        return arrays[number % len(arrays)] if arrays else None

    # What programs and workers do

    def submit_tasks(self, node: str, tasks: int, chunk: int, retries: int, after: int, fault: Fault | None) -> None:
        """With `after` its tasks follow those of an array that is there, if it has as many."""
        first = self.pick_array(after) if after else None
        given = {"retries": str(retries), **({"after_each": [first]} if first else {})}
        with self.on(node) as jar, fault_in(fault), contextlib.suppress(JarError):
            plan = Plan(describe_command("true", attributes=given), parse_array(f"1-{tasks}")[0], chunk=chunk)
            submit_array(jar, plan)

    def run_tasks(
        self, body: Body, count: int, has_idle: bool, fault: Fault | None, act: Callable[[], None] | None = None
    ) -> None:
        """Run so many tasks of the chunk that a worker holds, share what is left if there `has_idle`, and give the rest back."""
        job, left = body.job, count
        if job is None or job.kind != CHUNK:
            return

        def may_go_on() -> bool:
            nonlocal left
            left -= 1
            return left > 0

        self.has_idle = has_idle
        refused = WhileRefused(lambda: False, lambda line: None)
        with self.acting(body) as jar, fault_in(fault, act):
            definition = read_usable(jar.layout, str(job.batch))
            named = range_in_name(job.name)
            wanted = None if named is None else definition.indexes.within(*named)
            assert wanted is not None
            run = ChunkRun(Workplaces(body.claimer), job, definition, wanted, _Watch(), refused)
            ended = block(run.run(self.now, may_go_on))
            job = run.job._replace(name=ended.name)
            complete(body.claimer, Ending(job, ended.end, ended.verdict, self.now()), refused)
        body.job = None

    def retry_failed(self, node: str, number: int, fault: Fault | None) -> None:
        uid = self.pick_array(number)
        if uid is not None:
            with self.on(node) as jar, fault_in(fault), contextlib.suppress(JarError):
                retry_tasks(jar, uid)

    def cancel_tasks(self, node: str, number: int, first: int, fault: Fault | None) -> None:
        uid = self.pick_array(number)
        if uid is not None:
            with self.on(node) as jar, fault_in(fault), contextlib.suppress(JarError):
                refresh_ledger(jar)
                steer(jar, make_selection([f"{uid}[{first}]"]), Cancel("ann"))

    # What has to be true

    def key_of(self, path: str) -> Any:
        data = Path(path).read_bytes()
        return id_in_name(os.path.basename(path)) if _ARRAY.search(data) else super().key_of(path)

    def _taken_places(self) -> dict[str, str]:
        found = super()._taken_places()
        for path in Path(self.layout.limbo).glob(f".batch-*/*{LEAVING}/**/*"):
            if path.is_file():
                found[str(path.relative_to(self.layout.home))] = f"limbo/{path.name}"
        return found

    def _check_keeps(self, who: str, dump: dict[str, list[tuple[Any, ...]]]) -> None:
        super()._check_keeps(who, dump)
        now: dict[tuple[str, int], int] = {(row[0], row[1]): row[2] for row in dump["task"]}
        opened = {(row[0], row[1], number) for row in dump["array_life"] for number in range(row[2], row[3] + 1)}
        for uid, number, life in self.ended.get(who, set()) if who in self.recorded else ():
            is_again = any((uid, later, number) in opened for later in range(life + 1, 50))
            assert is_again or now.get((uid, number), -1) >= life, f"{who} forgot the end of {uid}[{number}]"
        self.ended[who] = {(uid, number, life) for (uid, number), life in now.items()}

    def delete_ledger(self, node: str, with_wal: bool) -> None:
        super().delete_ledger(node, with_wal)
        self.ended.pop(node, None)

    def settle(self) -> None:
        super().settle()
        self.start_worker(NODES[0], 7, None)
        body = self.pick(0)
        assert body is not None
        for _ in range(200):
            self.settle_dependents(NODES[0], None)
            self.claim(body, True, None)
            if body.job is None:
                break
            self.run_tasks(body, 1000, False, None)
        assert body.job is None
        for uid in self.arrays():
            with self.on(NODES[0]) as jar, jar.ledger.writing() as connection:
                fold_journals(connection, jar.layout)
                array = array_of(connection, uid)
                assert array is not None and array.first is not None and array.last is not None
                left = set(range(array.first, array.last + 1)) - ended_numbers(
                    connection, array.id, array.first, array.last
                )
                for name in chunks_cut_short(connection, uid):  # its worker died too often
                    first, last = range_in_name(name) or (0, -1)
                    left -= set(range(first, last + 1))
                assert not left, f"{uid} has tasks that will never run: {sorted(left)}"
                assert array.succeeded + array.failed <= (array.tasks or 0)
        super().settle()
