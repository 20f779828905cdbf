"""The jobs that a worker has under way, the slots of their stages, and how far the stages may overlap.

Reads and writes nothing.
"""

from __future__ import annotations

import os
import time

from jobjar.attempts.attempt import ClaimedJob
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Command, Program, Steps, Turn, Wait, Work
from jobjar.described.way import Way
from jobjar.processes.children import Ended
from jobjar.processes.waits import Listen, Pause
from jobjar.settings.layers import Settings

# A step that ends sooner gets one journal entry: its end, which also holds the time of its beginning.
SHORT_S = 0.01
_FIRST_LOOK_S = 0.002
# How often to look for the end of a child of which nothing tells.
_BLIND_LOOK_S = 0.05


class Process:
    """A command's session, from its start until no process of it is left."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        self.ended: Ended | None = None
        # When to kill it after it was asked to end; when to look again. All times here: seconds of the monotonic clock.
        self.kill_at: float | None = None
        self.look_at = float("inf") if self.pidfd >= 0 else 0.0
        self.pause_s = _FIRST_LOOK_S
        # The process ended as by a signal to end. Until this time its worker may get that signal too.
        self.doubt_until: float | None = None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Task:
    """A job under way, and what it waits for."""

    def __init__(self, lifecycle: Way) -> None:
        self.lifecycle = lifecycle
        self.steps: Steps[None] = lifecycle.steps()
        self.wait: Wait | None = None
        self.taken_at = self.since = time.monotonic()
        # The worker that could run this waiting job at once, as of the last look.
        self.idle_worker: str | None = None
        self.is_journaled = False
        self.slot = ""
        self.cause: str | None = None
        self.process: Process | None = None
        self.work: object = None
        # Until when to wait for the thread that works for this job.
        self.give_up_at = float("inf")

    @property
    def job(self) -> ClaimedJob:
        """The job as it is held now: a chunk that gave tasks away has another name."""
        return self.lifecycle.job

    @property
    def hears_orders(self) -> bool:
        """Whether it hears by itself what ends it."""
        return self.lifecycle.hears_orders and not isinstance(self.wait, Turn)

    @property
    def child(self) -> int:
        """A descriptor that becomes readable at the end of the child that it waits for; -1 for none."""
        if isinstance(self.wait, Listen):
            return -1 if self.wait.waiter is None else self.wait.waiter.descriptor
        return -1 if self.process is None or self.process.ended is not None else self.process.pidfd

    @property
    def wanted(self) -> str:
        """The slot that it waits for; "" for none."""
        return self.wait.slot if isinstance(self.wait, Turn) else ""

    @property
    def has_news(self) -> bool:
        """Whether something is to be journaled if the wait takes longer: that the step is under way, or that the one
        before it has ended."""
        return not self.is_journaled and (isinstance(self.wait, Command | Program | Work) or self.lifecycle.has_entries)

    def listens_until(self, wait: Listen) -> float:
        is_blind = wait.waiter is not None and wait.waiter.descriptor < 0
        return self.since + (min(wait.timeout_s, _BLIND_LOOK_S) if is_blind else wait.timeout_s)

    def next_due(self) -> float:
        """When there is something to do for it at the latest, if nothing happens."""
        due, lifecycle = self.give_up_at, self.lifecycle
        if isinstance(self.wait, Pause):
            due = min(due, self.since + self.wait.seconds)
        elif isinstance(self.wait, Listen):
            due = min(due, self.listens_until(self.wait))
        if self.has_news:
            due = min(due, self.since + SHORT_S)
        if self.process is not None:
            due = min(due, self.process.look_at)
        if lifecycle.deadline is not None and self.cause is None:
            due = min(due, lifecycle.deadline if lifecycle.warn_at is None else lifecycle.warn_at)
        if lifecycle.monitor is not None and lifecycle.monitor.next_look is not None:
            due = min(due, lifecycle.monitor.next_look)
        return due


class Slots:
    """The jobs under way, in the order of their claims. With JJ_STAGED_AHEAD=0 and JJ_STAGE_OUT_QUEUE=0 nothing overlaps."""

    def __init__(self, settings: Settings, run_slots: int) -> None:
        self._settings = settings
        self._run_slots = run_slots
        self.jobs: list[Task] = []

    def count(self, slot: str, waiting: bool = False) -> int:
        """Count the jobs that have this slot; with `waiting`, also those that wait for it."""
        return sum(task.slot == slot or (waiting and task.wanted == slot) for task in self.jobs)

    def running(self) -> int:
        """Count the taken run slots. A job that has run keeps its run slot where the stage-out queue is full."""
        behind = sum(STAGE_OUT in (task.slot, task.wanted) and not task.lifecycle.is_storing for task in self.jobs)
        return self.count(RUN) + max(0, behind - self._settings.stage_out_queue)

    def may_claim(self) -> bool:
        """Whether one more job may be claimed: a stage-in slot is free, and not too many jobs are staged ahead."""
        ahead = sum(
            task.slot == STAGE_IN or task.wanted in (STAGE_IN, RUN) or task.lifecycle.is_storing for task in self.jobs
        )
        settings = self._settings
        is_free = self.count(STAGE_IN, waiting=True) < settings.stage_in_slots
        return is_free and self.running() + ahead < self._run_slots + settings.staged_ahead

    def is_next_ahead(self) -> bool:
        """Whether a job claimed now would have to wait for a run slot."""
        return self.running() + len(self._before_run()) >= self._run_slots

    def waiting_ahead(self) -> list[Task]:
        """The jobs that are staged in and wait for a run slot of another job."""
        free = max(0, self._run_slots - self.running())
        return [task for task in self._before_run()[free:] if task.wanted == RUN]

    def _before_run(self) -> list[Task]:
        return [task for task in self.jobs if task.slot == STAGE_IN or task.wanted in (STAGE_IN, RUN)]

    def has_turn(self, slot: str) -> bool:
        """Whether a slot of this stage is free."""
        if slot == RUN:
            return self.running() < self._run_slots
        slots = self._settings.stage_in_slots if slot == STAGE_IN else self._settings.stage_out_slots
        return self.count(slot) < slots
