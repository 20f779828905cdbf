"""How many jobs of a jar, or of a batch, stand still for which cause: the warnings of `system_status` and `batch_status`.

standing.py decides the causes; here they are asked for all jobs that share one, by counts that an index gives. Reads only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from jobjar.attempts.limits import BATCH, CATEGORY, STORAGE, limit_key
from jobjar.attempts.time_left import NeededTime
from jobjar.causes import Cause, Counted, count_standing, split_line
from jobjar.errors import JarError
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.journal.submitted import is_held_by_person
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_claiming import heads_that_need_more, waiting_classes
from jobjar.ledger.ask_standing import (
    claimed_of_batch,
    count_begin_later,
    count_left_in_limbo,
    count_of_batch,
    count_of_class,
)
from jobjar.ledger.looks import Unseen
from jobjar.liveness import DEAD
from jobjar.reports.dependents import count_dependents
from jobjar.reports.no_free_worker import explain_short_time
from jobjar.reports.other_files import explain_unseen, find_other_files, known_categories
from jobjar.reports.pilots_standing import count_pilots
from jobjar.reports.standing import Look, explain_remedy, explain_stranded, format_time, is_of_storage
from jobjar.reports.too_large import explain_too_large
from jobjar.reports.workers import count_silent
from jobjar.text import printable_name

_SHOWN = 20
# A file that is in limbo for less than this many seconds may be on its way.
_ON_ITS_WAY_S = 60.0
Group = Mapping[str, Any]


def count_jar(look_at: Look, status: Mapping[str, Any], large: Collection[str]) -> list[Counted]:
    """What stands still in a jar, as `gather_status` has gathered it. Files in `large` directories are not looked at one by one.
    Without a ledger what only a ledger knows is left out."""
    layout, has_ledger = look_at.jar.layout, status["source"] != "directories"
    claimed = status["jobs"]["claimed_jobs"]
    found = _shorten(count_silent(look_at.workers, look_at.hearing, claimed), "more are held by silent workers")
    waiting: dict[str, int] = {}
    for row in status["categories"]:
        waiting[row["category"]] = waiting.get(row["category"], 0) + row["waiting"]
    if status["jobs"]["unclaimed"] and not look_at.heard:
        found.append(
            Counted(Cause.NO_WORKER, status["jobs"]["unclaimed"], "no worker is running", "`start_worker` starts one")
        )
    else:
        found += _count_unasked(look_at, waiting)
    resting = [(worker, pause) for worker in look_at.heard if (pause := worker.explain_pause())]
    rests = [
        Counted(Cause.FAILURE_PAUSE, 0, f"worker {worker.name} {pause}", worker.explain_failed())
        for worker, pause in resting
    ]
    found += _shorten(rests, "more workers pause after failures")
    found += _count_stranded(look_at, [job for job in claimed if job["stranded"]])
    found += _count_held(status["jobs"]["held"])
    for row in status["limits"]:
        if row["free"] == 0:
            found += _count_limit(look_at, row["kind"], row["name"], waiting, has_ledger)
    if has_ledger:
        found += _count_short_time(look_at, waiting)
        found += count_dependents(look_at.jar.ledger.connection, bool(look_at.heard), lambda: look_at.unmoved)
        found += count_pilots(look_at.jar.ledger.connection, _select_unasked(look_at, waiting))
        found += _count_by_ledger(look_at)
        found += _count_too_large(look_at, waiting)
        found += _count_returns(status["returned"])
    found += [
        count_standing(split_line(Cause.UNSEEN, explain_unseen(Unseen(**directory))), directory["jobs"])
        for directory in status["unseen"]
        if directory["is_by_hand"]
    ]
    with contextlib.suppress(OSError):  # the others still help
        disk = look_at.disk
        found += [] if disk is None else [Counted(disk.cause, 0, disk.why, f"{disk.do}; until then workers wait")]
    if os.path.lexists(layout.stop_all_file):
        why = f"{layout.stop_all_file} stops every worker, new ones too, until it is removed"
        found.append(Counted(Cause.STOP_ALL, 0, why))
    if os.path.lexists(layout.pause_all_file):
        why = f"{layout.pause_all_file} pauses every worker until it is removed"
        found.append(Counted(Cause.PAUSE_ALL, 0, why))
    return found + _count_files(look_at, large)


def count_batch(look_at: Look, batch: Mapping[str, Any], waiting: Mapping[str, int]) -> list[Counted]:
    """What stands still in a batch, as `gather_batches` has gathered it. `waiting` has its waiting jobs by category."""
    name = str(batch["batch"])
    known = sum(batch["phases"].values())
    found: list[Counted] = []
    if batch["jobs"] > known and not batch["is_aborted"]:
        why = f"{_jobs(batch['jobs'] - known)} of it are submitted, and not in the jar yet"
        found.append(Counted(Cause.SUBMITTING, batch["jobs"] - known, why, "`recover_jobs` goes on with that"))
    own = sum(jobs for category, jobs in waiting.items() if not category.startswith(STORAGE_CATEGORY))
    if own:
        found += [count_standing(standing, own, _jobs(own)) for standing in look_at.batch(name)]
        found += _ask(lambda: look_at.limit(limit_key(BATCH, name)), own, _jobs(own))
    for category, jobs in waiting.items():
        kind = STORAGE if category.startswith(STORAGE_CATEGORY) else CATEGORY
        key = limit_key(kind, category.removeprefix(STORAGE_CATEGORY) if kind == STORAGE else category)
        found += _ask(lambda key=key: look_at.limit(key), jobs, _jobs(jobs))  # type: ignore[misc]
    found += _count_unasked(look_at, waiting)
    found += _count_short_time(look_at, waiting, name)
    found += _count_begin_later(look_at, name) if own else []
    found += _count_returns(batch["returned"], name)
    if any(phase not in ("waiting", "waiting_for_storage", "held", "limbo") for phase in batch["phases"]):
        found += _count_holders(look_at, name)
    with contextlib.suppress(OSError):
        if look_at.disk is not None and batch["done"] < batch["jobs"]:
            found.append(count_standing(look_at.disk, 0))
    return found


def _ask(ask: Callable[[], Any], jobs: int, which: str) -> list[Counted]:
    with contextlib.suppress(OSError):
        standing = ask()
        return [] if standing is None else [count_standing(standing, jobs, which)]
    return []


def _count_unasked(look_at: Look, waiting: Mapping[str, int]) -> list[Counted]:
    found = []
    for category, jobs in waiting.items():
        which = f"{_jobs(jobs)} of category {category}" if category else _jobs(jobs, "uncategorized ")
        found += _ask(lambda category=category: look_at.unasked(category), jobs, which)  # type: ignore[misc]
    return found


def _select_unasked(look_at: Look, waiting: Mapping[str, int]) -> dict[str, int]:
    """The waiting jobs that no worker asks for, by category."""
    with contextlib.suppress(OSError):
        return {category: jobs for category, jobs in waiting.items() if look_at.unasked(category)}
    return {}


def _count_short_time(look_at: Look, waiting: Mapping[str, int], batch: str | None = None) -> list[Counted]:
    """The jobs that may take longer than any worker has left, among the first of each category that workers would look at."""
    found = []
    needed = NeededTime(look_at.jar.layout)
    for category, jobs in waiting.items():
        left_s = look_at.left_s(category) if jobs else None
        if left_s is None:
            continue
        heads = heads_that_need_more(look_at.jar.ledger.connection, category, look_at.now, left_s)
        long = [one for one in heads if batch in (None, one.batch) and needed.by_ledger(one) > left_s]
        if long:
            which = f"{_jobs(len(long))} of category {category}" if category else _jobs(len(long), "uncategorized ")
            least_s = min(map(needed.by_ledger, long))
            found.append(count_standing(explain_short_time(category, least_s, left_s), len(long), which))
    return found


def _count_too_large(look_at: Look, waiting: Mapping[str, int]) -> list[Counted]:
    found: list[Counted] = []
    connection = look_at.jar.ledger.connection
    for category in waiting:
        for request in waiting_classes(connection, category):
            with contextlib.suppress(OSError):  # the others still help
                standing = explain_too_large(category, request, look_at.heard)
                if standing is not None:
                    jobs = count_of_class(connection, category, request)
                    found.append(count_standing(standing, jobs, _jobs(jobs)))
    return _shorten(found, "more ask for more than workers have")


def _count_limit(look_at: Look, kind: str, name: str, waiting: Mapping[str, int], has_ledger: bool) -> list[Counted]:
    if kind == BATCH:
        jobs = count_of_batch(look_at.jar.ledger.connection, name) if has_ledger else 0
    else:
        jobs = waiting.get(f"{STORAGE_CATEGORY}{name}" if kind == STORAGE else name, 0)
    return _ask(lambda: look_at.limit(limit_key(kind, name)), jobs, f"{_jobs(jobs)}") if jobs else []


def _count_by_ledger(look_at: Look) -> list[Counted]:
    """Batches that wait, jobs that may not begin yet, and those that were left in limbo."""
    connection = look_at.jar.ledger.connection
    found = []
    for name in sorted({*look_at.aborted, *look_at.throttled, *look_at.failed}):
        jobs = count_of_batch(connection, name)
        if jobs:
            found += [
                count_standing(standing, jobs, f"{_jobs(jobs)} of batch {name}") for standing in look_at.batch(name)
            ]
    found += _count_begin_later(look_at)
    where = look_at.jar.layout.unclaimed
    left = count_left_in_limbo(connection, look_at.now - _ON_ITS_WAY_S)
    if left.by_hand:
        why = f"{_jobs(left.by_hand)} in limbo, where no worker looks (one of them: {printable_name(left.name or '')})"
        found.append(Counted(Cause.IN_LIMBO, left.by_hand, why, f"move what is to run to {where}"))
    if left.submitted:
        why = f"{_jobs(left.submitted)} in limbo whose submission did not end (one of them: {printable_name(left.name or '')})"
        found.append(Counted(Cause.SUBMITTING, left.submitted, why, f"move what is to run to {where}"))
    return found


def _count_begin_later(look_at: Look, batch: str | None = None) -> list[Counted]:
    later = count_begin_later(look_at.jar.ledger.connection, look_at.now, batch)
    if later is None:
        return []
    jobs = f"{_jobs(later.jobs)}{' or more' if later.has_more else ''}"
    why = f"{jobs} may not begin yet, the first of them not before {format_time(later.first_at)}"
    return [Counted(Cause.BEGINS_LATER, later.jobs, why)]


def _count_returns(groups: Iterable[Group], batch: str | None = None) -> list[Counted]:
    """The jobs that are tried again only later, by why they went back; of a batch, also those that are held."""
    found = []
    for group in groups:
        cause = " ".join(group["cause"].split())
        if group["outcome"] == "held":
            if batch is not None:
                found.append(_held(group["jobs"], group["job"], cause, f"--batch {shlex.quote(batch)}"))
            continue
        is_storage = is_of_storage(group["outcome"], cause)
        if is_storage or group["next_at"] is not None:
            due = "" if group["next_at"] is None else f", the first of them not before {format_time(group['next_at'])}"
            line = f"{_jobs(group['jobs'])} to be tried again{due}: {cause}"
            kind = Cause.STORAGE if is_storage else Cause.RETRIED_LATER
            found.append(count_standing(split_line(kind, line), group["jobs"]))
    return found


def _count_held(held: Iterable[Mapping[str, Any]]) -> list[Counted]:
    """The jobs that are held in limbo, those with one reason together."""
    groups: dict[str, list[str]] = {}
    for job in held:
        if job["held_reason"]:
            groups.setdefault(job["held_reason"], []).append(job["name"])
    found = [_held(len(names), names[0], reason) for reason, names in groups.items()]
    return _shorten(found, "more are held in limbo")


def _held(jobs: int, name: str, reason: str, which: str = "--state held") -> Counted:
    """Jobs that are held for one reason. `which` selects them, if there are several."""
    is_by_person = is_held_by_person(reason)
    what = f"`jobjar release {name if jobs == 1 else which}`"
    what = f"{what} lets {'it' if jobs == 1 else 'them'} go on"
    if not is_by_person:
        what = f"correct {'its file' if jobs == 1 else 'their files'} there, then {what}"
    start = f"{name} is" if jobs == 1 else f"{jobs:,} jobs are"
    end = "" if jobs == 1 else f" (one of them: {name})"
    return Counted(Cause.HELD if is_by_person else Cause.FAULTY, jobs, f"{start} held in limbo: {reason}{end}", what)


def _count_stranded(look_at: Look, stranded: Sequence[Mapping[str, Any]]) -> list[Counted]:
    by_name = {worker.paths.name: worker for worker in look_at.workers}
    found = []
    for job in stranded[:_SHOWN]:
        standing = explain_stranded(look_at.jar, by_name[job["worker"]], job["id"])
        found.append(Counted(standing.cause, 1, f"{job['name']} {standing.why.removeprefix('it ')}", standing.do))
    if len(stranded) > _SHOWN:
        jobs = len(stranded) - _SHOWN
        found.append(Counted(Cause.STRANDED, jobs, f"and {_jobs(jobs)} more are stranded"))
    return found


def _count_holders(look_at: Look, batch: str) -> list[Counted]:
    """The jobs of a batch that dead or silent workers hold, by worker."""
    held: dict[str, list[str | None]] = {}
    for uid, place in claimed_of_batch(look_at.jar.ledger.connection, batch):
        held.setdefault(worker_of_place(place) or "", []).append(uid)
    found = []
    for worker in look_at.workers if held else ():
        uids = held.get(worker.paths.name, [])
        if not uids:
            continue
        dead = explain_stranded(look_at.jar, worker, uids[0]) if worker.alive == DEAD else None
        standing = dead or look_at.silence(worker, "its worker ")
        found += [] if standing is None else [count_standing(standing, len(uids), _jobs(len(uids)))]
    return found


def _count_files(look_at: Look, large: Collection[str]) -> list[Counted]:
    """Files that nobody may take, and what is no job; and that the jar is open to others."""
    jar, refused = look_at.jar, look_at.refused
    others = find_other_files(jar, refused, large)
    passed_over = [
        split_line(Cause.NOT_PERMITTED, f"{place if place.isprintable() else ascii(place)} is passed over: {reason}")
        for place, reason in sorted(refused.found)
    ]
    found = _shorten([count_standing(one, 1) for one in passed_over], "more are passed over for that reason")
    no_jobs = [
        Counted(Cause.NOT_A_JOB, 0, f"{printable_name(path)} is not a job: {reason}", explain_remedy(reason))
        for path, reason in others
    ]
    found += _shorten(no_jobs, "more files that are not jobs")
    try:
        jar.check_is_safe(known_categories(jar) if "unclaimed" in large else None)
    except JarError as error:
        found.append(count_standing(split_line(Cause.UNSAFE_JAR, str(error)), 0))
    return found


def _shorten(found: list[Counted], words: str) -> list[Counted]:
    """Lines of one cause: the first of them, and how many more there are."""
    more = found[_SHOWN:]
    if not more:
        return found
    jobs = sum(one.jobs for one in more)
    return [*found[:_SHOWN], Counted(more[0].cause, jobs, f"and {_jobs(jobs) if jobs else len(more)} {words}")]


def _jobs(count: int, kind: str = "") -> str:
    return f"1 {kind}job" if count == 1 else f"{count:,} {kind}jobs"
