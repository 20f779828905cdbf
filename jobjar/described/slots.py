"""The jobs that a worker juggles, and which of them may do what: the slots of the stages, and how far they may overlap.

Reads and writes nothing.
"""

from __future__ import annotations

import os
import time

from jobjar.described.lifecycle import Lifecycle
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Command, Steps, Turn, Wait, Work
from jobjar.processes.session import Ended
from jobjar.settings.layers import Settings

_FIRST_LOOK_S = 0.002


class Process:
    """A command's session, from its start until nothing of it is left."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        self.ended: Ended | None = None
        # When it is to be killed, once it was asked to end; when to look again whether it did.
        self.kill_at: float | None = None
        self.look_at = float("inf") if self.pidfd >= 0 else 0.0
        self.pause_s = _FIRST_LOOK_S
        # Until when it is looked whether its worker was told to end too, as it was.
        self.doubt_until: float | None = None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Juggled:
    """A job under way, and what it waits for."""

    def __init__(self, course: Lifecycle) -> None:
        self.course = course
        self.job = course.job
        self.steps: Steps[None] = course.steps()
        self.wait: Wait | None = None
        self.taken_at = self.since = time.monotonic()
        # Of one that waits for its turn: who could run it at once, at the last look.
        self.idle_worker: str | None = None
        self.is_said = False
        # The slot that it has.
        self.slot = ""
        self.cause: str | None = None
        self.process: Process | None = None
        self.work: object = None
        # When the thread that works for it is not waited for any more.
        self.give_up_at = float("inf")

    @property
    def wanted(self) -> str:
        """The slot that it waits for."""
        return self.wait.slot if isinstance(self.wait, Turn) else ""

    @property
    def has_news(self) -> bool:
        """Whether there is something to be journaled when what it waits for takes longer: that it is under way, or that
        what came before is over."""
        return not self.is_said and (isinstance(self.wait, Command | Work) or self.course.has_entries)


class Slots:
    """The jobs under way, in the order in which they were claimed. With JJ_STAGED_AHEAD and JJ_STAGE_OUT_QUEUE 0 nothing
    overlaps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.jobs: list[Juggled] = []

    def count(self, slot: str, waiting: bool = False) -> int:
        """How many have a slot; with `waiting`, or wait for one."""
        return sum(juggled.slot == slot or (waiting and juggled.wanted == slot) for juggled in self.jobs)

    def running(self) -> int:
        """How many run slots are taken: also by what has run, where more than may wait for its stage-out do."""
        behind = sum(
            STAGE_OUT in (juggled.slot, juggled.wanted) and not juggled.course.is_storing for juggled in self.jobs
        )
        return self.count(RUN) + max(0, behind - self._settings.stage_out_queue)

    def may_claim(self) -> bool:
        """Whether one more job may be claimed: there is a slot to stage it in, and it is not too far ahead."""
        ahead = sum(
            juggled.slot == STAGE_IN or juggled.wanted in (STAGE_IN, RUN) or juggled.course.is_storing
            for juggled in self.jobs
        )
        settings = self._settings
        is_free = self.count(STAGE_IN, waiting=True) < settings.stage_in_slots
        return is_free and self.running() + ahead < settings.run_slots + settings.staged_ahead

    def is_next_ahead(self) -> bool:
        """Whether a job that is claimed now would have to wait for a run slot."""
        return self.running() + len(self._before_run()) >= self._settings.run_slots

    def waiting_ahead(self) -> list[Juggled]:
        """The jobs that are staged in and wait for a run slot that others have."""
        free = max(0, self._settings.run_slots - self.running())
        return [juggled for juggled in self._before_run()[free:] if juggled.wanted == RUN]

    def _before_run(self) -> list[Juggled]:
        return [juggled for juggled in self.jobs if juggled.slot == STAGE_IN or juggled.wanted in (STAGE_IN, RUN)]

    def has_turn(self, slot: str) -> bool:
        """Whether a slot is free."""
        if slot == RUN:
            return self.running() < self._settings.run_slots
        slots = self._settings.stage_in_slots if slot == STAGE_IN else self._settings.stage_out_slots
        return self.count(slot) < slots
