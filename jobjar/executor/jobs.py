"""The jobs of groups: submitted, watched where their results fail to come, cancelled where their calls were withdrawn."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobjar.attempts.attempt import CANCELLED
from jobjar.errors import JarError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.names import check_identifier, check_priority, id_in_name
from jobjar.ledger.ask_awaited import job_outcomes
from jobjar.ledger.ask_jobs import find_jobs
from jobjar.library import note_submitted
from jobjar.reports.jobs import find_output
from jobjar.reports.output import read_last_lines
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.selection import make_selection
from jobjar.shared_disk.files import look
from jobjar.stages.submit import Submission, submit_all
from jobjar.steering.cancel import Cancel
from jobjar.steering.steer import steer
from jobjar.typed_job import describe_words

RUNNER = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/programs/run_calls.py"
_LAST_LINES = 5


class End(NamedTuple):
    """How a job ended: its outcome (None: it is not known yet, or never will be) and a sentence for people."""

    outcome: str | None
    reason: str

    @property
    def is_for_all(self) -> bool:
        """Whether somebody wanted the job gone, so that none of its calls may be sent again."""
        return self.outcome in (CANCELLED, "removed")


class Jobs:
    """`attributes` are those of `jobjar.submit`, with category, priority and name. Raises BadAttribute, BadCategory,
    BadIdentifier, BadPriority."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = {name: value for name, value in attributes.items() if value is not None}
        self._about = [self._attributes.pop(name, None) for name in ("priority", "category")]
        self._name = self._attributes.pop("name", None)
        self._attributes.setdefault("dir", os.getcwd())
        if self._name is not None:
            check_identifier(self._name)
        if self._about[0] is not None:
            check_priority(self._about[0])
        self.describe("", "0", "name")

    @property
    def has_time_limit(self) -> bool:
        return "time_limit" in self._attributes

    def describe(self, directory: str, group: str, name: str) -> Submission:
        words = [sys.executable, RUNNER, directory, group]
        priority, category = self._about
        return describe_words(words, priority, category, self._name or _as_identifier(name), self._attributes)

    def submit(self, jar: Jar, submissions: Sequence[Submission]) -> list[str]:
        """Submit jobs; returns their names. Raises the errors of `submit_all`."""
        try:
            return submit_all(jar, submissions)
        finally:
            note_submitted(jar, at_once=True)

    def cancel(self, jar: Jar, names: Iterable[str]) -> None:
        """Cancel the jobs of groups that were withdrawn. They would find nothing to run, so an error harms nobody."""
        with contextlib.suppress(JarError, OSError):
            refresh_ledger(jar)
            steer(jar, make_selection(list(names)), Cancel(login(), "its calls were cancelled"))
            jar.mirror()


def has_ended(jar: Jar, job: str) -> bool:
    """Whether the file of a job is in completed. Raises OSError."""
    return look(f"{jar.layout.completed}/{job}") is not None


def find_ends(jar: Jar, jobs: Sequence[str]) -> dict[str, End]:
    """How those of these jobs ended that have, or were removed, by their names. Raises JarError, OSError."""
    refresh_ledger(jar)
    uids = {str(id_in_name(job)): job for job in jobs}
    found = job_outcomes(jar.ledger.connection, list(uids))
    ends = {}
    for uid, (state, outcome) in found.items():
        if state == "removed":
            ends[uids[uid]] = End("removed", f"its job {uid} was removed")
        elif state == "completed":
            ends[uids[uid]] = End(outcome, _describe_end(jar, uid, outcome))
    return ends


def _describe_end(jar: Jar, uid: str, outcome: str | None) -> str:
    (job, *_) = find_jobs(jar.ledger, uid)
    how = (outcome or "ended, and nothing tells how").replace("_", " ")
    if job.signal:
        how += f", by signal {job.signal}"
    elif job.exit_status:
        how += f", with exit status {job.exit_status}"
    lines: list[str] = []
    with contextlib.suppress(JarError, OSError):  # it wrote nothing, or has not run
        lines = read_last_lines(jar, find_output(jar, job), _LAST_LINES)
    reason = f"its job {uid} ({job.name}) {how}; `jobjar show {uid}` tells more"
    return "\n  ".join([f"{reason}, and this is the end of its output:", *lines]) if lines else reason


def _as_identifier(name: str) -> str:
    """A function's name as a part of a job's name."""
    last = name.rpartition(".")[2]
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "-" for letter in last)
    return kept.strip("-")[:60].rstrip("-") or "call"
