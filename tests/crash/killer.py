"""Kill this process with SIGKILL at its N-th write.

`arm` wraps, in the process that calls it, what changes a disk or starts a process: renames, links, new files, writes to
regular files, fsyncs, removals, modes and times, posix_spawn, signals, and the transactions of SQLite. Each call is a
*point* with a label; the points of a counting run are the cases of a test.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import signal
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

import peewee

from jobjar.shared_disk import moves

BEFORE = "before"
AFTER = "after"
_PLAIN_CALLS = (
    "rename",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
    "fchmod",
    "utime",
    "fsync",
    "fdatasync",
    "truncate",
    "ftruncate",
    "posix_spawn",
)
_SQL = re.compile(r"\s*(BEGIN|COMMIT|PRAGMA (?:wal_checkpoint|journal_mode =))", re.IGNORECASE)


class Plan(NamedTuple):
    """When to die: at the point of this number, or at the `occurrence`-th whose label matches; `when` of the call.
    Neither: never, and only count."""

    number: int = 0
    when: str = BEFORE
    match: str = ""
    occurrence: int = 1


class Killer:
    """Counts points, and dies at the one of the plan. `trace` is a descriptor that gets the labels, one a line."""

    def __init__(self, plan: Plan, trace: int) -> None:
        self.plan = plan
        self.trace = trace
        self.count = 0
        self.matches = 0
        self._write = os.write
        self._kill = os.kill

    def wrap(
        self, call: Callable[..., Any], name: str, counts: Callable[..., bool] | None = None
    ) -> Callable[..., Any]:
        """`call` as a point; where `counts(*arguments)` is false, as it was."""

        def at_point(*arguments: Any, **options: Any) -> Any:
            if counts is not None and not counts(*arguments, **options):
                return call(*arguments, **options)
            return self.pass_point(f"{name} {_describe(arguments)}", lambda: call(*arguments, **options))

        return at_point

    def pass_point(self, label: str, call: Callable[[], Any]) -> Any:
        """Make one call, and die before or after it where the plan says so."""
        self.count += 1
        if self.trace >= 0:
            self._write(self.trace, (json.dumps(label) + "\n").encode())
        due = self.count == self.plan.number
        if self.plan.match and re.search(self.plan.match, label):
            self.matches += 1
            due = self.matches == self.plan.occurrence
        if due and self.plan.when == BEFORE:
            self._die()
        try:
            return call()
        finally:
            if due:
                self._die()

    def _die(self) -> None:
        self._kill(os.getpid(), signal.SIGKILL)


def _describe(arguments: tuple[Any, ...]) -> str:
    return " ".join(os.fsdecode(word) for word in arguments if isinstance(word, str | bytes))[:400]


def _makes_a_file(path: Any, flags: int, *rest: Any, **options: Any) -> bool:
    return bool(flags & (os.O_CREAT | os.O_TRUNC))


def _is_regular(descriptor: int, *rest: Any) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _is_for_writing(path: Any, mode: str = "r", *rest: Any, **options: Any) -> bool:
    return any(letter in mode for letter in "wax+")


def arm(plan: Plan, trace: int = -1) -> Killer:
    """Wrap the writes of this process. There is no way back: for a process that ends soon anyway."""
    killer = Killer(plan, trace)
    for name in _PLAIN_CALLS:
        setattr(os, name, killer.wrap(getattr(os, name), name))
    kill: Any = killer.wrap(os.kill, "kill")
    os.kill = kill
    opened: Any = killer.wrap(os.open, "open", _makes_a_file)
    os.open = opened
    written: Any = killer.wrap(os.write, "write", _is_regular)
    os.write = written
    opened_file: Any = killer.wrap(builtins.open, "open", _is_for_writing)
    builtins.open = opened_file
    _wrap_renameat2(killer)
    _wrap_sqlite(killer)
    return killer


def _wrap_renameat2(killer: Killer) -> None:
    rename = moves._load_renameat2()
    if rename is not None:
        wrapped = killer.wrap(rename, "renameat2")
        moves._load_renameat2 = lambda: wrapped


def _wrap_sqlite(killer: Killer) -> None:
    driver: Any = vars(peewee)["sqlite3"]
    connect = driver.connect

    class Connection(driver.Connection):  # type: ignore[misc]
        def execute(self, sql: str, *parameters: Any) -> Any:
            run = super().execute
            if not _SQL.match(sql):
                return run(sql, *parameters)
            return killer.pass_point(sql, lambda: run(sql, *parameters))

    def connect_counting(*arguments: Any, **options: Any) -> Any:
        return connect(*arguments, factory=Connection, **options)

    driver.connect = connect_counting
