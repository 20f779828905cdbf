"""Change a batch after its submission: which keys may be changed, and what that does to its jobs.

It is one change of the batch (change.py): made wholly or not at all, also after a kill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobjar.batches.change import (
    commit,
    making,
    stage_jobs,
    take_batch,
)
from jobjar.batches.plan import plan_seeds
from jobjar.batches.state import BatchState, check_known, disk_now, read_batch
from jobjar.batches.submit import SubmittedBatch, as_submission
from jobjar.batches.submit_file import check_value
from jobjar.errors import BadChange
from jobjar.jar import Jar
from jobjar.job_file.seeds import parse_seeds

# The keys that batch_edit may change.
EDITABLE = ("seeds", "priority", "notes")


def edit_batch(jar: Jar, name: str, changes: Mapping[str, str]) -> SubmittedBatch:
    """Change a batch. Its `seeds` may become more, and the new ones are submitted. A new `priority` holds for its waiting jobs
    and for those submitted later. `notes` may be any text. Returns how many jobs were submitted.

    Raises BadChange, UnknownBatch, BatchBusy, SubmitFailed (nothing was changed), BatchUnfinished.
    """
    said = _check_changes(jar, name, changes)
    change = take_batch(jar, name)
    with making(jar, change, f"the change of batch {name}"):
        state = read_batch(jar, name)
        planned = _plan_widening(state, said)
        keys = [pair for pair in state.keys if pair[0] not in said]
        keys += [(key, value) for key, value in said.items() if key != "seeds"]
        count = stage_jobs(jar, change, (as_submission(job) for job in planned(tuple(keys))))
        seeds = str(parse_seeds(said["seeds"])) if "seeds" in said else state.seeds
        changed = {"keys": keys, "seeds": seeds, "jobs": state.data["jobs"] + count}
        changed["changed_at"] = disk_now(jar, state.changed_at)
        if "priority" in said:
            changed["priority_by"] = change.id
        commit(jar, change, {**state.data, **changed})
    return SubmittedBatch(name, count)


def _check_changes(jar: Jar, name: str, changes: Mapping[str, str]) -> dict[str, str]:
    check_known(jar, name)
    if not changes:
        raise BadChange(name=name, reason=f"say what is to change: {', '.join(EDITABLE)}")
    said = {}
    for key, value in changes.items():
        if key not in EDITABLE:
            reason = f"{key} cannot be changed once it is submitted; what can be is {', '.join(EDITABLE)}"
            raise BadChange(name=name, reason=reason)
        try:
            said[key] = str(check_value(key, value).text)
        except ValueError as error:
            raise BadChange(name=name, reason=f"{key}: {error}") from error
    return said


def _plan_widening(state: BatchState, said: Mapping[str, str]) -> Any:
    """Return a function that plans the jobs of the new seeds, given the batch's keys. Raises BadChange."""
    if "seeds" not in said:
        return lambda keys: iter(())
    if state.seeds is None:
        what = "job blocks" if state.has_blocks else "one job"
        raise BadChange(name=state.name, reason=f"it has {what}, and no seeds")
    if state.is_aborted:
        raise BadChange(name=state.name, reason="it is aborted; abort_batch --restart takes that back")
    old, new = parse_seeds(state.seeds), parse_seeds(said["seeds"])
    lost = old.without(new)
    if lost.count:
        raise BadChange(name=state.name, reason=f"the seeds {lost} are submitted already; seeds can only become more")
    missing = new.without(old)
    return lambda keys: plan_seeds(keys, missing) if missing.count else iter(())
