"""Described jobs as their submitters and workers leave them: real files, moved by rename, and real entries in the journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.layout import held_place, unclaimed_place
from tests.described_jobs import script

WORKER = {"worker": "rain.7", "worker_uid": "wkr1"}
OTHER_WORKER = {"worker": "sun.8", "worker_uid": "wkr2"}


class DescribedJob:
    """A job of a batch, submitted; `described` is what its file says beyond that it runs something. `clock` is the
    disk's time of what is journaled next; it goes on by itself."""

    def __init__(
        self,
        jar: Jar,
        batch: str | None,
        seed: int,
        clock: float,
        described: dict[str, str] | None = None,
        category: str = "",
        **said: Any,
    ) -> None:
        self.jar = jar
        self.uid = new_id()
        self.clock = clock
        self.category = category
        self.name = f"20260102T030405Z-{self.uid}-rain-1-{seed}-ann.0"
        self.number = self.attempt = 0
        self.who: dict[str, Any] = {}
        self.place = f"limbo/{self.name}"
        file = Path(jar.layout.path(self.place))
        file.write_text(script(run_command="true", **(described or {})))
        file.chmod(0o755)
        about = {"kind": "described", "batch": batch, "seed": seed, "retries": 3, **said}
        self.journal("submitted", name=self.name, category=category, submitter="ann", submitted_at=self.tick(), **about)
        self.move(unclaimed_place(category, self.name), "submitted", "ann")

    def tick(self, seconds: float = 0.25) -> float:
        self.clock += seconds
        return self.clock

    def journal(self, kind: str, /, **fields: Any) -> None:
        self.jar.journal.append([{"entry": kind, "job": self.uid, **fields}])

    def move(self, to: str, reason: str, by: str, **fields: Any) -> None:
        source, target = self.jar.layout.path(self.place), self.jar.layout.path(to)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)
        self.number += 1
        where = {"number": self.number, "from": self.place, "to": to, "moved_at": self.tick()}
        self.journal("moved", **where, reason=reason, by=by, **fields)
        self.place = to

    def claim(self, who: dict[str, Any] = WORKER, category: str | None = None) -> DescribedJob:
        self.attempt += 1
        self.who = {"attempt": self.attempt, **who}
        place = held_place(who["worker"], self.category if category is None else category, self.name)
        self.move(place, "claimed", who["worker"], worker_uid=who["worker_uid"], attempt=self.attempt)
        return self

    def begin(self, phase: str) -> DescribedJob:
        self.began_at = self.tick()
        self.journal("phase", **self.who, phase=phase, began_at=self.began_at)
        return self

    def pass_phase(self, phase: str, seconds: float = 0.25, **how: Any) -> DescribedJob:
        self.begin(phase)
        ended_at = self.tick(seconds)
        self.journal(
            "phase", **self.who, phase=phase, began_at=self.began_at, ended_at=ended_at, **{"exit_status": 0, **how}
        )
        return self

    def log(self, **variables: Any) -> DescribedJob:
        self.journal("variables", **self.who, variables=variables, told_at=self.tick())
        return self

    def store(self, source_name: str, size: int, **fields: Any) -> DescribedJob:
        self.journal("stored", **self.who, source_name=source_name, storage_size=size, **fields)
        return self

    def end(self, outcome: str, final: bool, **how: Any) -> None:
        self.journal("ended", **self.who, ended_at=self.tick(), outcome=outcome, final=final, **how)

    def complete(self, outcome: str = "succeeded", exit_status: int | None = 0, **how: Any) -> DescribedJob:
        self.end(outcome, True, exit_status=exit_status, **how)
        self.move(f"completed/{self.name}", "completed", self.who["worker"], category=self.category)
        return self

    def retry(self, exit_status: int = 3, **how: Any) -> DescribedJob:
        self.end("failed", False, exit_status=exit_status, **how)
        self.move(unclaimed_place(self.category, self.name), "retried", self.who["worker"], not_before=self.clock + 60)
        return self

    def publish(self, storage_class: str, exit_status: int = 0) -> DescribedJob:
        self.end("published", False, exit_status=exit_status)
        self.move(unclaimed_place(f"STORAGE-{storage_class}", self.name), "published", self.who["worker"])
        return self


def journal_batch(jar: Jar, name: str, **fields: Any) -> None:
    about = {"submitter": "ann", "submitted_at": 1000.0, "description": "", "changed_at": 1000.0}
    jar.journal.append([{"entry": "batch", "batch": name, **about, **fields}])


def journal_throttle(jar: Jar, name: str, until: float, failures: int) -> None:
    jar.journal.append([{"entry": "throttle", "batch": name, "told_at": 1000.0, "until": until, "failures": failures}])
