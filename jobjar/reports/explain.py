"""Explain a job in one sentence, and what to do about it: why it waits, where it runs, how it ended.

Reads the ledger, which the caller brings up to date, and the directories; writes nothing but this node's clock file.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from jobjar.attempts.attempt import CANCELLED, CRASHED, SUCCEEDED, TIMED_OUT
from jobjar.causes import Cause, Standing
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.layout import name_in_place, worker_of_place
from jobjar.ledger.ask_selected import SelectedJob
from jobjar.ledger.ask_standing import count_before, count_waiting, final_end, limit_of_job, recent_ends
from jobjar.ledger.large_looks import why_not_a_job
from jobjar.reports.listing import iso_time
from jobjar.reports.sentences import End, format_whole_end
from jobjar.reports.standing import Look, explain_remedy, find_standing, find_turn, format_time
from jobjar.roster import read_worker
from jobjar.shared_disk.files import look
from jobjar.shared_disk.listing import list_directories
from jobjar.units import format_rate, format_seconds

_HOUR_S = 3600.0


class Explanation(NamedTuple):
    """What is said of a job. `sentence` says it to people; `what_to_do` may be empty. `causes` are those for which it does not
    run. `jobs_before` are those that are claimed before it, and `may_start_at` (UTC epoch seconds) is when it may start by the
    rate of the last hour; None if that is not known."""

    id: str | None
    name: str
    place: str
    state: str
    outcome: str | None
    sentence: str
    causes: list[Standing]
    what_to_do: list[str]
    jobs_before: int | None = None
    may_start_at: float | None = None


def explain_job(look_at: Look, job: SelectedJob) -> Explanation:
    """Explain a job that the ledger knows."""
    if job.state == "completed":
        return _explain_end(look_at, job)
    found = find_standing(look_at, job)
    if job.state == "removed" and not found:
        why = f"{_name(job)} was removed: its file was taken away, so no worker runs it"
        return _make(job, why, [], ["submit it again, if it is to run"])
    turn = None if found else find_turn(look_at, job)
    found += [turn] if turn is not None else []
    if job.state == "claimed":
        return _explain_running(look_at, job, found)
    return _explain_waiting(look_at, job, found)


def _explain_waiting(look_at: Look, job: SelectedJob, found: list[Standing]) -> Explanation:
    since = job.moved_at if job.state == "limbo" or job.submitted_at is None else job.submitted_at
    start = f"{_name(job)} has waited for {format_seconds(max(0.0, look_at.now - since))}"
    jobs_before, may_start_at = None, None
    if job.state == "unclaimed":
        jobs_before = _count_before(look_at, job)
        if found and found[0].cause in (Cause.BUSY, Cause.NEXT):
            may_start_at, expected = _expect_start(look_at, job, jobs_before)
            found[0] = found[0]._replace(why=f"{found[0].why}; {expected}")
    if not found:
        found = [Standing(Cause.NEXT, "nothing keeps it from running")]
    why = "; ".join(standing.why for standing in found)
    return _make(job, f"{start}: {why}", found, _remedies(found), jobs_before, may_start_at)


def _count_before(look_at: Look, job: SelectedJob) -> int:
    """How many jobs are claimed before a job: those before it in its category, and all of the categories that each worker which
    asks for its own asks for first."""
    connection = look_at.jar.ledger.connection
    before = count_before(connection, job.category, job.priority, job.submitted_at, job.id)
    first: set[str] | None = None
    for worker in look_at.heard:
        if worker.asks_for(job.category):
            asked = list(worker.categories)
            own = set(asked[: asked.index(job.category)] if job.category in asked else asked)
            first = own if first is None else first & own
    return before + (count_waiting(connection, first - {job.category}) if first else 0)


def _expect_start(look_at: Look, job: SelectedJob, jobs_before: int) -> tuple[float | None, str]:
    """When a job may start by the rate at which the workers that ask for it completed jobs in the last hour."""
    count = "no job is" if not jobs_before else "1 job is" if jobs_before == 1 else f"{jobs_before:,} jobs are"
    asking = {worker.name for worker in look_at.heard if worker.asks_for(job.category)}
    ends = recent_ends(look_at.jar.ledger.connection, asking, look_at.now, _HOUR_S)
    if not ends.jobs:
        return None, f"{count} before it, and none has ended in the last hour to tell when it may start"
    rate_per_s = ends.jobs / ends.seconds
    left_s = (jobs_before + 1) / rate_per_s
    rate = format_rate(rate_per_s)
    at = look_at.now + left_s
    return at, f"{count} before it, and by the rate of the last hour ({rate}) it may start in {format_seconds(left_s)}"


def _explain_running(look_at: Look, job: SelectedJob, found: list[Standing]) -> Explanation:
    name = worker_of_place(job.place) or ""
    since = job.moved_at if job.started_at is None else job.started_at
    held_s = max(0.0, look_at.now - since)
    sentence = f"{_name(job)} is with worker {name} since {format_time(since)} ({format_seconds(held_s)})"
    with contextlib.suppress(OSError):
        worker = read_worker(look_at.jar.layout, name)
        age_s = None if worker is None else look_at.hearing.age_s(worker)
        if worker is not None and age_s is not None:
            sentence += f" on {worker.process.node}; the worker was heard of {format_seconds(max(0.0, age_s))} ago"
    limit_s = limit_of_job(look_at.jar.ledger.connection, job.id)
    if limit_s:
        left_s = limit_s - held_s
        ends = f"over in {format_seconds(left_s)}" if left_s > 0 else "over"
        sentence += f"; its time limit of {format_seconds(limit_s)} is {ends}"
    with contextlib.suppress(OSError):
        found += [] if look_at.disk is None else [look_at.disk]
    if found:
        why = "; ".join(standing.why for standing in found)
        return _make(job, f"{sentence}; {why}", found, _remedies(found))
    key = job.uid or job.name
    what = [f"`jobjar output {key}` shows what it has written so far", f"`jobjar kill {key}` ends it"]
    return _make(job, f"{sentence}; it runs", [], what)


def _explain_end(look_at: Look, job: SelectedJob) -> Explanation:
    key = job.uid or job.name
    last = final_end(look_at.jar.ledger.connection, key)
    end = End(
        job.outcome,
        job.exit_status,
        job.signal,
        job.ended_at,
        last.wall_time_s,
        last.number,
        job.final_worker,
        last.message,
    )
    sentence = f"{_name(job)} {format_whole_end(end, look_at.now)}"
    if job.outcome is None:
        return _make(job, sentence, [], [f"`jobjar history {key}` says what is known"])
    what = [] if job.outcome == CANCELLED else [f"`jobjar output {key}` shows what it wrote"]
    what += [_HINTS[job.outcome]] if job.outcome in _HINTS else []
    if job.outcome != SUCCEEDED:
        is_aborted = job.batch is not None and job.batch in look_at.aborted
        what.append(
            f"`abort_batch --restart {job.batch}` runs what its batch has not done"
            if is_aborted
            else f"`jobjar retry {key}` runs it again"
        )
    return _make(job, sentence, [], what)


_HINTS = {
    TIMED_OUT: "give it a longer time limit, if it needs more time",
    CRASHED: "its worker died each time that it ran: does it use up the memory?",
}


def explain_no_job(jar: Jar, word: str) -> Explanation | None:
    """Explain a file of this name in limbo or unclaimed/ that is no job; None if there is none."""
    name = name_in_place(word)
    for place in (
        "limbo",
        "unclaimed",
        *(f"unclaimed/{category}" for category in list_directories(jar.layout.unclaimed)),
    ):
        path = jar.layout.path(f"{place}/{name}")
        reason = why_not_a_job(Path(path)) if name and look(path) is not None else None
        if reason is not None:
            remedy = explain_remedy(reason)
            standing = Standing(Cause.NOT_A_JOB, f"{path} is not a job: {reason}", remedy)
            return Explanation(
                None,
                name,
                f"{place}/{name}",
                place.partition("/")[0],
                None,
                standing.why,
                [standing],
                _remedies([standing]),
            )
    return None


def _make(
    job: SelectedJob,
    sentence: str,
    causes: list[Standing],
    what_to_do: list[str],
    jobs_before: int | None = None,
    may_start_at: float | None = None,
) -> Explanation:
    state = "held" if job.is_held else job.state
    return Explanation(
        job.uid, job.name, job.place, state, job.outcome, sentence, causes, what_to_do, jobs_before, may_start_at
    )


def _remedies(found: list[Standing]) -> list[str]:
    return list(dict.fromkeys(standing.do for standing in found if standing.do))


def _name(job: SelectedJob) -> str:
    """A job's id, with the name that a person gave it."""
    given = identifier_in_name(job.name, job.submitter)
    if job.uid is None:
        return job.name
    return f"{job.uid} ({given})" if given else job.uid


def describe_for_programs(explained: Explanation) -> dict[str, Any]:
    """An explanation as `jobjar explain --format json` has it. Times are ISO 8601 in UTC."""
    causes = [standing._asdict() for standing in explained.causes]
    return {**explained._asdict(), "causes": causes, "may_start_at": iso_time(explained.may_start_at)}
