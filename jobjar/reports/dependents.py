"""Why dependents wait: what their prerequisites have come to. Reads the ledger, which the caller brings up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobjar.causes import Cause, Counted, Standing, split_line
from jobjar.job_file.prerequisites import AFTER, AFTER_ANY, AFTER_EACH, BATCH, JOB, TASKS, Prerequisite
from jobjar.ledger.ask_selected import SelectedJob
from jobjar.ledger.dependents import count_due, count_lost_prerequisites
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.judge_dependents import WAIT, End, ends_of_prerequisites, judge

_SHOWN = 5
_HOW = {AFTER: "has succeeded", AFTER_ANY: "has ended", AFTER_EACH: "have ended"}
_STATES = {"limbo": "is in limbo", "unclaimed": "waits", "claimed": "runs"}


def explain_dependent_job(
    connection: Connection, job: SelectedJob, unmoved: Callable[[], str | None] = lambda: None
) -> list[Standing]:
    """Every cause for which a dependent waits, what will not go on by itself first. `unmoved` says why jobs cannot be moved."""
    uid = str(job.uid)
    ends = list(ends_of_prerequisites(connection, uid, {}))
    if judge(ends)[0] != WAIT:
        return [split_line(Cause.DEPENDENT, f"its prerequisites have ended{say_unmoved(unmoved())}")]
    open_ones = [(one, end) for one, end in ends if end.fulfils(one.kind) is None]
    found = [_explain_lost(uid, one, end) for one, end in open_ones if is_lost(one, end)]
    waits = [(one, end) for one, end in open_ones if not is_lost(one, end)]
    if waits:
        one, end = waits[0]
        more = f", and {len(waits) - 1:,} more" if len(waits) > 1 else ""
        state = "" if one.what != JOB else f" ({_STATES.get(str(end.state), end.state)} now)"
        title = f"the tasks {one.title}" if one.what == TASKS else one.title
        why = f"it is to run once {title} {_HOW.get(one.kind, 'has ended without success')}{state}{more}"
        do = f"`batch_status {one.target}`" if one.what == BATCH else f"`jobjar explain {one.target}`"
        found.append(Standing(Cause.DEPENDENT, why, f"{do} says what that waits for"))
    return found or [Standing(Cause.LOST_PREREQUISITE, f"it is {job.held_reason}, of which nothing is known", _do(uid))]


def describe_prerequisites(connection: Connection, uid: str) -> list[dict[str, Any]] | None:
    """What a job waits for, or has waited for, as `jobjar show --format json` has it; None for nothing. `kind` is after,
    after_any or after_failed; the `outcome` of a batch is `succeeded` or `failed`."""
    ends = ends_of_prerequisites(connection, uid, {})
    found = [
        {
            "kind": one.kind,
            one.what: one.target,
            "state": end.state if one.what == JOB else None,
            "outcome": end.outcome,
        }
        for one, end in ends
    ]
    return found or None


def name_prerequisites(described: Sequence[Mapping[str, Any]]) -> str:
    """The same in words, the first of them."""
    words = []
    for one in described[:_SHOWN]:
        name = one.get("job") or one.get("tasks") or f"batch {one.get('batch')}"
        words.append(f"{one['kind'].replace('_', '-')} {name} ({one['outcome'] or one['state'] or 'not ended'})")
    more = len(described) - _SHOWN
    return ", ".join(words) + (f" and {more:,} more" if more > 0 else "")


def is_lost(prerequisite: Prerequisite, end: End) -> bool:
    """Whether a prerequisite will not end any more as far as anybody knows, or how it ended is not known."""
    if prerequisite.what != JOB:
        return end.is_ended or (prerequisite.what == TASKS and end.state is None)
    return end.state in (None, "removed", "completed")


def _explain_lost(uid: str, prerequisite: Prerequisite, end: End) -> Standing:
    if end.state == "completed":
        why = f"its prerequisite {prerequisite.title} ended, and nothing tells how"
    elif end.state == "removed":
        why = f"its prerequisite {prerequisite.title} was removed before it had ended"
    else:
        why = f"nothing is known of its prerequisite {prerequisite.title}"
    return Standing(Cause.LOST_PREREQUISITE, why, _do(uid))


def _do(uid: str) -> str:
    return f"`jobjar release {uid}` lets it run, `jobjar cancel {uid}` ends it"


def say_unmoved(unmoved: str | None) -> str:
    """The end of a line about jobs that a worker is to move: that it does, or why it cannot."""
    if unmoved is None:
        return "; a worker does the rest soon, and `recover_jobs` does it too"
    return f", and cannot be moved: {unmoved}"


def count_dependents(
    connection: Connection, is_worker_there: bool, unmoved: Callable[[], str | None] = lambda: None
) -> list[Counted]:
    """The dependents of a jar that stand still. `unmoved` says why jobs cannot be moved."""
    found = [
        Counted(
            Cause.LOST_PREREQUISITE,
            lost.jobs,
            f"{_jobs(lost.jobs)} on {lost.target}, which was removed or ended without a word how",
            f"`jobjar explain {lost.dependent}` says what to do",
        )
        for lost in count_lost_prerequisites(connection)
    ]
    refused = unmoved() if has_due(connection) else None
    due = 0 if is_worker_there and refused is None else count_due(connection)
    if due:
        why = f"{_jobs(due)} on what has ended, and nobody has let {'it' if due == 1 else 'them'} go on"
        do = f"they cannot be moved: {refused}" if refused else "a worker does that, or `recover_jobs`"
        found.append(Counted(Cause.DEPENDENT, due, why, do))
    return found


def _jobs(count: int) -> str:
    return "1 job depends" if count == 1 else f"{count:,} jobs depend"
