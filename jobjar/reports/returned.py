"""Why jobs went back, in words, and how many share a cause. DESIGN.md, "Going back", has what each cause says.

The causes are the journaled messages of attempts and the reasons of holds, so every node and every rebuilt ledger says the same.
Reads; writes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from jobjar.ledger.ask_returns import Return
from jobjar.reports.tables import format_table

Group = dict[str, Any]
_SHOWN = 20
_NUMBER = re.compile(r"[0-9]+")
# A command of a described job ended, and nothing more is known of why.
_BARE_END = re.compile(r": (?:exit status|signal) [0-9]+$")
# Words for the outcome of an attempt that did not complete its job.
_WAYS = {"failed": "failed", "timed_out": "ran too long", "stranded": "was stranded", "lost": "was lost"}


def explain_return(row: Return) -> str:
    """Why a waiting job went back, as a line for people."""
    way = _WAYS.get(row.outcome, "was interrupted")
    return f"its attempt {row.attempt} {way}: {name_cause(row)}"


def name_cause(row: Return) -> str:
    """Why an attempt did not complete its job, and what to do."""
    if row.message and not _BARE_END.search(row.message):
        return row.message
    if row.message or row.outcome in ("failed", "timed_out"):
        how = f"signal {row.signal}" if row.signal is not None else f"exit status {row.exit_status}"
        return f"{row.message or how} (`jobjar output` shows what it wrote)"
    return "nothing is journaled of why"


def group_returns(rows: Iterable[Return]) -> list[Group]:
    """Groups of jobs that went back for the same cause, largest first: `jobs` (how many), `outcome` (of the attempts, or `held`),
    `cause`, `job` (the newest), `last_at`, `next_at` (when the first of them may be tried again; None: now).

    Causes that differ only in numbers or in the job's own name are one group, in the words of the newest.
    """
    groups: dict[tuple[str, str], Group] = {}
    seen: set[str] = set()
    now = time.time()
    for row in rows:
        if row.uid in seen:
            continue
        seen.add(row.uid)
        cause = name_cause(row)
        key = row.outcome, _NUMBER.sub("#", cause.replace(row.job, "#"))
        group = groups.setdefault(
            key, {"jobs": 0, "outcome": row.outcome, "cause": cause, "job": row.job, "last_at": row.ended_at}
        )
        group["jobs"] += 1
        due = row.not_before if row.not_before > now else 0.0
        group["next_at"] = min(group.get("next_at", due), due)
    for group in groups.values():
        group["next_at"] = group["next_at"] or None
    return sorted(groups.values(), key=lambda group: (-group["jobs"], -group["last_at"], group["cause"]))


def format_returns(groups: list[Group], table_format: str) -> str:
    """Groups of causes as a table."""
    rows = [
        (
            group["jobs"],
            group["outcome"].replace("_", " "),
            "now" if group["next_at"] is None else time.strftime("%H:%M:%S", time.localtime(group["next_at"])),
            " ".join(group["cause"].split()),
        )
        for group in groups[:_SHOWN]
    ]
    table = format_table(rows, ("jobs", "went back", "tried again", "why"), table_format)
    return table + (f"\nand {len(groups) - _SHOWN} more causes" if len(groups) > _SHOWN else "")
