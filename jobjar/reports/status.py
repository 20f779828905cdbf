"""What a jar is doing, as data and as tables. Reads the ledger's views and the directories; moves nothing.

`gather_status` brings the ledger up to date first (a fold and a look at the directories). If the ledger is missing, locked or
unusable, the status comes from the directories alone, and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from jobjar.access.refusals import name_refusal
from jobjar.arrays.open_tasks import name_tasks_at_work
from jobjar.attempts.attempt import CANCELLED
from jobjar.attempts.limits import describe_limits
from jobjar.causes import Cause, Counted, count_standing, split_line
from jobjar.errors import CannotUseJar, LedgerError
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.job_file.names import oddity_in_name, priority_in_name
from jobjar.layout import category_of_place
from jobjar.ledger import ask_status
from jobjar.ledger.ask_batches import count_open_phases
from jobjar.ledger.ask_returns import list_returns
from jobjar.ledger.dependents import count_dependent
from jobjar.ledger.looks import Unseen
from jobjar.ledger.renamed import find_renamed_jobs
from jobjar.reports.arrays import count_tasks, format_arrays, format_tasks, list_arrays
from jobjar.reports.other_files import explain_unseen, find_large_directories
from jobjar.reports.refresh import describe_source, name_source, refresh_ledger
from jobjar.reports.returned import format_returns, group_returns
from jobjar.reports.standing import Look
from jobjar.reports.standing_counts import count_jar
from jobjar.reports.tables import format_table
from jobjar.reports.versions import explain_other_versions
from jobjar.reports.workers import KINDS, describe_workers, mark_stranded
from jobjar.shared_disk.files import is_job_file
from jobjar.shared_disk.listing import list_directory, list_held, list_jar
from jobjar.units import format_rate, format_seconds

Status = dict[str, Any]
DIRECTORIES = "directories"
_PATIENCE_S = 2.0
_SHOWN = 20


def gather_status(jar: Jar) -> Status:
    """The state of a jar. Ages are in seconds. Its fields:
    - `jobs`, `categories`, `workers`, `limits`, `throughput`, `throttled` (batches), `outcomes` (of jobs);
    - `standing`: what stands still, with the fields of `causes.Counted`; `warnings`: the same as lines, and what else is odd;
    - `arrays`: those that have not ended, with the fields of `describe_array`; their chunks count as jobs above; `tasks`: how
      many of their tasks wait and run, and how many tasks of all arrays ended in the last hour and day (`count_tasks`);
    - `phases`: how many open described jobs are in each phase; `undecided_attempts`: those that completed no job;
    - `returned`: why waiting jobs went back, by `group_returns`; `renamed`: jobs whose files a person renamed;
    - `unseen`: directories too large for a look that changed since they were last compared with the ledger, with the fields of
      `ledger.looks.Unseen`;
    - `source`: `ledger`, `snapshot` (of age `snapshot_age_s`, plus the newer journal entries), `journals` or `directories`."""
    unseen: list[Unseen] = []
    standing: list[Counted] = []
    try:
        unseen = refresh_ledger(jar, _PATIENCE_S, needs_history=False)
        status = _from_ledger(jar)
    except (LedgerError, CannotUseJar, OSError) as error:
        reason = name_refusal(error) if isinstance(error, OSError) else error
        standing.append(
            count_standing(split_line(Cause.LEDGER, f"read from the directories alone, without history: {reason}"), 0)
        )
        status = _from_directories(jar)
    return _complete_status(jar, status, unseen, standing)


def gather_refreshed(jar: Jar, unseen: list[Unseen]) -> Status:
    """`gather_status` for a caller that has brought the ledger up to date, and was told `unseen`. Raises LedgerError, OSError."""
    with jar.ledger.errors_named():
        return _complete_status(jar, _from_ledger(jar), unseen, [])


def _complete_status(jar: Jar, status: Status, unseen: list[Unseen], standing: list[Counted]) -> Status:
    """Add what comes from the workers' directories and from several sources."""
    look_at = Look(jar)
    status["workers"] = describe_workers(look_at.workers, look_at.hearing, status["jobs"]["claimed_jobs"])
    mark_stranded(look_at.workers, status["jobs"]["claimed_jobs"])
    status["limits"] = describe_limits(jar.layout)
    large = find_large_directories(jar, unseen) if status["source"] != DIRECTORIES else set()
    status["unseen"] = [directory._asdict() for directory in unseen]
    standing += count_jar(look_at, status, large)
    status["standing"] = [counted._asdict() for counted in standing]
    status["warnings"] = [counted.line for counted in standing] + _find_others(status, look_at)
    return status


def _from_ledger(jar: Jar) -> Status:
    ledger = jar.ledger
    states = {"limbo": 0, "unclaimed": 0, "claimed": 0, "completed": 0}
    states.update((state, count) for state, count in ask_status.count_states(ledger).items() if state in states)
    now = time.time()
    arrays = [array for array in list_arrays(jar) if array["state"] != "ended"]
    claimed = ask_status.list_claimed(ledger)
    at_work = name_tasks_at_work(ledger.connection, (array["id"] for array in arrays if array["running"]))
    return {
        **describe_source(jar),
        "jobs": {
            **states,
            "claimed_jobs": [{**job, "task": at_work.get(job["id"])} for job in claimed],
            "oldest_waiting": ask_status.find_oldest_waiting(ledger),
            "held": ask_status.list_held(ledger),
            "dependent": count_dependent(ledger.connection),
        },
        "phases": count_open_phases(ledger),
        "arrays": arrays,
        "tasks": count_tasks(jar),
        "categories": [
            {
                "category": row["category"],
                "priority": row["priority"],
                "waiting": row["waiting"],
                "oldest_age_s": max(0.0, now - (row["oldest_at"] or now)),
            }
            for row in ask_status.list_queue(ledger)
        ],
        "outcomes": ask_status.list_outcomes(ledger),
        "undecided_attempts": ask_status.list_undecided(ledger),
        "throughput": ask_status.measure_throughput(ledger),
        "returned": group_returns(list_returns(ledger.connection)),
        "renamed": [{"place": place, "name": name} for place, name in find_renamed_jobs(ledger.connection)],
        "throttled": [
            {"batch": row.batch, "until": row.until, "failures": row.failures, "left_s": round(row.until - now, 3)}
            for row in ask_status.list_throttles(ledger)
            if row.until > now
        ],
    }


def _from_directories(jar: Jar) -> Status:
    """The status without a ledger: all but history and reasons."""
    layout = jar.layout
    now = time.time()
    waiting: dict[tuple[str, int], tuple[int, float]] = {}
    oldest: dict[str, Any] | None = None
    for place, entry in list_jar(layout.unclaimed, "unclaimed"):
        status = _status_of_job(entry)
        if status is None:
            continue
        key = category_of_place(place) or "", priority_in_name(entry.name)
        age_s = max(0.0, now - status.st_ctime)
        count, oldest_age_s = waiting.get(key, (0, 0.0))
        waiting[key] = count + 1, max(age_s, oldest_age_s)
        if oldest is None or age_s > oldest["age_s"]:
            oldest = {"id": None, "name": entry.name, "category": key[0], "priority": key[1], "age_s": age_s}
    claimed = []
    for worker in list_directory(layout.workers):
        for place, entry in list_held(layout.worker(worker.name)):
            status = _status_of_job(entry)
            age_s = max(0.0, now - status.st_ctime) if status else 0.0
            category, priority = category_of_place(place), priority_in_name(entry.name)
            claimed.append(
                {
                    "id": None,
                    "name": entry.name,
                    "task": None,
                    "category": category,
                    "priority": priority,
                    "place": place,
                    "age_s": age_s,
                }
            )
    return {
        "source": DIRECTORIES,
        "snapshot_age_s": None,
        "jobs": {
            "limbo": sum(1 for _, entry in list_jar(layout.limbo, "limbo") if _status_of_job(entry)),
            "unclaimed": sum(count for count, _ in waiting.values()),
            "claimed": len(claimed),
            "completed": sum(1 for _ in list_jar(layout.completed, "completed")),
            "claimed_jobs": claimed,
            "oldest_waiting": oldest,
            "held": [],
            "dependent": 0,
        },
        "phases": {},
        "arrays": [],
        "tasks": None,
        "categories": [
            {"category": category, "priority": priority, "waiting": count, "oldest_age_s": age_s}
            for (category, priority), (count, age_s) in sorted(
                waiting.items(), key=lambda item: (item[0][0], -item[0][1])
            )
        ],
        "outcomes": [],
        "undecided_attempts": [],
        "throughput": {},
        "returned": [],
        "renamed": [],
        "throttled": [],
    }


def _status_of_job(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return status if is_job_file(status) and not oddity_in_name(entry.name) else None


def format_limits(limits: Sequence[dict[str, Any]], table_format: str) -> str:
    """Limits as a table."""
    rows = [
        (row["kind"], row["name"] or "(none)", row["limit"], row["free"], len(row["taken"]), name_holders(row["taken"]))
        for row in limits
    ]
    return format_table(rows, ("kind", "name", "limit", "free", "taken", "by"), table_format)


def name_holders(workers: Sequence[str]) -> str:
    """Workers, each with its number of tokens if it holds more than one."""
    counts = {worker: workers.count(worker) for worker in workers}
    return ", ".join(worker if count == 1 else f"{worker} ({count})" for worker, count in counts.items())


def _find_others(status: Status, look_at: Look) -> list[str]:
    """What a person should look at, though nothing stands still for it."""
    found = []
    for job in status["renamed"][:_SHOWN]:
        found.append(
            f"{job['place']} is job {job['name']}, which somebody renamed; its worker gives it its name back. Where a category "
            "was meant, make that directory first"
        )
    if len(status["renamed"]) > _SHOWN:
        found.append(f"and {_jobs(len(status['renamed']) - _SHOWN)} more were renamed")
    versions = explain_other_versions(look_at.heard)
    return found + ([versions] if versions else [])


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def format_status(jar: Jar, status: Status, table_format: str) -> str:
    """The status as text for people."""
    jobs = status["jobs"]
    source = name_source(status["source"], status["snapshot_age_s"])
    sections = [f"Jar {jar.layout.home}, seen from {node_name()}{', ' + source if source else ''}"]
    counts = [[jobs[state] for state in ("limbo", "unclaimed", "claimed", "completed")]]
    sections.append(format_table(counts, ("limbo", "unclaimed", "claimed", "completed"), table_format))
    unseen = [Unseen(**directory) for directory in status["unseen"]]
    sections += [explain_unseen(directory) for directory in unseen if not directory.is_by_hand]
    if status["phases"]:
        rows = [[phase.replace("_", " "), count] for phase, count in status["phases"].items()]
        sections.append("Described jobs\n" + format_table(rows, ("phase", "jobs"), table_format))
    if status["arrays"]:
        chunks = sum(
            count for array in status["arrays"] for state, count in array["chunks"].items() if state != "ended"
        )
        waiting, running = status["tasks"]["waiting"], status["tasks"]["running"]
        title = (
            f"Arrays: {waiting:,} tasks wait, {running:,} run (their {chunks:,} open chunks are among the jobs above)"
        )
        sections.append(f"{title}\n{format_arrays(status['arrays'], table_format)}")
    if status["workers"]["nodes"]:
        headers = ("node", *KINDS)
        rows = [[node[name] for name in headers] for node in status["workers"]["nodes"]]
        sections.append("Workers\n" + format_table(rows, headers, table_format))
    if status["categories"]:
        rows = [
            [row["category"] or "(none)", row["priority"], row["waiting"], format_seconds(row["oldest_age_s"])]
            for row in status["categories"]
        ]
        sections.append("Waiting\n" + format_table(rows, ("category", "priority", "jobs", "oldest"), table_format))
    if status["limits"]:
        sections.append("Limits\n" + format_limits(status["limits"], table_format))
    if status["throttled"]:
        rows = [[row["batch"], row["failures"], format_seconds(row["left_s"])] for row in status["throttled"]]
        table = format_table(rows, ("batch", "failed in a row", "waits for"), table_format)
        sections.append("Throttled batches\n" + table)
    if status["returned"]:
        sections.append("Went back, and wait\n" + format_returns(status["returned"], table_format))
    if jobs["dependent"]:
        sections.append(f"Waiting for others to end: {_jobs(jobs['dependent'])} (`jobjar list --state dependent`)")
    if jobs["oldest_waiting"]:
        oldest = jobs["oldest_waiting"]
        sections.append(f"Waiting longest: {oldest['name']}, {format_seconds(oldest['age_s'])}")
    if jobs["claimed_jobs"]:
        rows = [
            [job["task"] or job["name"], job["category"] or "(none)", job["worker"], format_seconds(job["age_s"])]
            for job in jobs["claimed_jobs"][:_SHOWN]
        ]
        text = format_table(rows, ("job", "category", "worker", "age"), table_format)
        if len(jobs["claimed_jobs"]) > _SHOWN:
            text += f"\nand {_jobs(len(jobs['claimed_jobs']) - _SHOWN)} more"
        sections.append("Claimed\n" + text)
    if status["outcomes"]:
        rows = [[row["outcome"], row["last_hour"], row["last_day"]] for row in status["outcomes"]]
        # Cancelled jobs never ran, so the rate leaves them out.
        ran = [row for row in status["outcomes"] if row["outcome"] != CANCELLED]
        sums = [sum(row[window] for row in ran) for window in ("last_hour", "last_day")]
        rows.append(["rate", *(format_rate(jobs / each_s) for jobs, each_s in zip(sums, (3600, 86400), strict=True))])
        sections.append("Completed\n" + format_table(rows, ("outcome", "last hour", "last day"), table_format))
    if status["tasks"] and (table := format_tasks(status["tasks"], table_format)):
        sections.append("Tasks of arrays\n" + table)
    if status["undecided_attempts"]:
        rows = [[row["outcome"], row["last_hour"], row["last_day"]] for row in status["undecided_attempts"]]
        sections.append(
            "Attempts that completed no job\n" + format_table(rows, ("ended", "last hour", "last day"), table_format)
        )
    if status["warnings"]:
        sections.append("Warnings\n" + "\n".join(f"- {line}" for line in status["warnings"]))
    return "\n\n".join(sections)
