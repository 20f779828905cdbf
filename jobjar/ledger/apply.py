"""Apply entries of journals to a ledger, a chunk at a time, with the same result in any order.

Why the order does not matter: rows of history have keys that come from the entry, so writing one twice changes nothing.
A job's row takes the *latest* of its moves: one of a later life (journal/entries.LIFE) before all, then one to completed,
then the later time (the disk's), then the higher number, then a claim, then by place. What an attempt has once become
(lost, final) is never taken back. So a chunk may be put together in memory first: only a job's latest move is compared with
its row, and an attempt that began and ended in the chunk is written once. Writes rows inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobjar.job_file.names import priority_in_name
from jobjar.job_file.request import class_of
from jobjar.journal.entries import LIFE
from jobjar.journal.read import Entry
from jobjar.layout import NOWHERE, category_of_place, name_in_place
from jobjar.ledger.apply_others import OTHER_KINDS, attempt_key, rows_of_other, thin_histories
from jobjar.ledger.apply_tasks import apply_of_arrays
from jobjar.ledger.by_hand import FOUND
from jobjar.ledger.counts import count_new_jobs, forget_minutes, forget_minutes_of
from jobjar.ledger.dependents import note_dependents
from jobjar.ledger.driver import Connection
from jobjar.ledger.entries import CLAIMS, ENDS, JOBS, MOVES, STARTS, SUBMISSIONS, check_rows, given_text
from jobjar.ledger.precedence import (
    ADD_JOB,
    ADD_MOVE,
    ADD_PLAIN_JOB,
    ADD_WHOLE_ATTEMPT,
    ADD_WHOLE_JOB,
    CLAIM_ATTEMPT,
    END,
    FORGET_UNNAMED,
    KEEP_FIRST_REMOVAL,
    KNOW_PROCESS,
    MOVE_AND_RENAME_JOB,
    MOVE_FOUND_JOB,
    MOVE_JOB,
    START,
    SUBMIT,
)
from jobjar.shared_disk.contents import is_time

_NO_ENTRY = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_STATE_OF_TOP = {"limbo": "limbo", "unclaimed": "unclaimed", "workers": "claimed"}
_STATE_OF_TOP |= {"completed": "completed", "archive": "completed", NOWHERE: "removed"}

_NOT_DELAYED = (0, None)
# The values of the other columns (precedence.py) that most jobs have.
_DEFAULTS = (None, None, None, "", None, None, 0, None, None, "")


class _Chunk:
    """The rows that a chunk of entries comes to. An invalid entry raises an error and adds nothing."""

    def __init__(self) -> None:
        # By job, the latest move: its sort key, its entry, and the state that it leads to.
        self.latest: dict[str, tuple[tuple[Any, ...], Entry, str]] = {}
        self.submissions: list[tuple[Any, ...]] = []
        self.moves: list[tuple[Any, ...]] = []
        self.claims: list[tuple[Any, ...]] = []
        self.starts: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Any, ...]] = []
        self.removals: list[tuple[str, int]] = []
        self.origins: list[str] = []
        self.file_marks: list[tuple[str, str]] = []
        # Statements and values of entries of the kinds in OTHER_KINDS.
        self.others: list[tuple[str, dict[str, Any]]] = []
        self.variables: list[Entry] = []
        self.of_arrays: list[Entry] = []

    def add(self, entry: Entry) -> None:
        kind = entry["entry"]
        if kind == "moved":
            self._add_moved(entry)
        elif kind == "ended":
            get = entry.get
            outcome = entry["outcome"]
            is_final = 1 if get("final") and outcome != "lost" else 0
            self.ends.append(
                (entry["job"], entry["attempt"], entry["worker_uid"], entry["worker"], get("pid"), get("pid_started"),
                 get("ended_at"), outcome, is_final, get("exit_status"), get("signal"), get("wall_time_s"),
                 get("user_cpu_s"), get("system_cpu_s"), get("max_rss_kib"), get("output_file"), get("message"))
            )  # fmt: skip
        elif kind == "submitted":
            self.submissions.append(_submission(entry["job"], entry["name"], entry, 0))
            mark = entry.get("file")
            if isinstance(mark, str):
                self.file_marks.append((mark, entry["job"]))
        elif kind == "started":
            self.starts.append((*attempt_key(entry), entry["worker"], entry["pid"], entry["pid_started"]))
        else:
            if "array" in entry:
                self.of_arrays.append(entry)
            if kind in OTHER_KINDS:
                self.others += rows_of_other(kind, entry)
                if kind == "variables":
                    self.variables.append(entry)

    def _add_moved(self, entry: Entry) -> None:
        uid, place, origin = entry["job"], entry["to"], entry["from"]
        state = _STATE_OF_TOP[place.partition("/")[0]]
        moved_at, number, reason, actor = entry["moved_at"], entry["number"], entry["reason"], entry["by"]
        order = (number // LIFE, state == "completed", moved_at, number, state == "claimed", place)
        is_found = reason == FOUND
        if is_found or place == NOWHERE:
            order = _found_order(entry, order)
        latest = self.latest.get(uid)
        found = entry.get("found")
        submission = None if found is None else _submission(uid, name_in_place(place), found, max(number, 1))
        is_latest = latest is None or order > latest[0] or (order == latest[0] and latest[1]["reason"] == FOUND)
        if reason == "claimed" and "attempt" in entry:
            self.claims.append((uid, entry["attempt"], entry["worker_uid"], actor, moved_at))
        if is_latest:
            self.latest[uid] = (order, entry, state)
        if state == "removed":
            self.removals.append((uid, number))
        self.moves.append((uid, number, moved_at, place, origin, reason, actor))
        if submission is not None:
            self.submissions.append(submission)
            self.origins.append(origin)

    def write(self, connection: Connection) -> None:
        """Apply all rows to the ledger. Raises one of `_refusals` if one of the entries is invalid."""
        rows = {uid: _job_row(*latest) for uid, latest in self.latest.items()}
        self._check(list(rows.values()))
        self._forget_unnamed(connection)
        if self.submissions:
            self._write_submissions(connection, rows)
            if self.file_marks:
                connection.executemany("INSERT OR IGNORE INTO file_mark VALUES (?, ?)", self.file_marks)
        if rows:
            found = {uid for uid in rows if self.latest[uid][1]["reason"] == FOUND}
            _write_moves(connection, [row for uid, row in rows.items() if uid not in found])
            _write_found_moves(connection, [rows[uid] for uid in found])
        if self.moves:
            connection.executemany(ADD_MOVE, self.moves)
        if self.removals:
            connection.executemany(KEEP_FIRST_REMOVAL, self.removals)
        self._write_attempts(connection)
        for statement, values in self.others:
            connection.execute(statement, values)
        apply_of_arrays(connection, self.of_arrays)
        thin_histories(connection, self.variables)
        if self.latest or self.ends or self.submissions:
            note_dependents(connection, self.submissions, self.latest, self.ends)
        if self.submissions:
            count_new_jobs(connection)

    def _check(self, jobs: list[tuple[Any, ...]]) -> None:
        attempts = ((self.claims, CLAIMS), (self.starts, STARTS), (self.ends, ENDS))
        for rows, checks in ((self.moves, MOVES), *attempts, (self.submissions, SUBMISSIONS), (jobs, JOBS)):
            check_rows(rows, checks)

    def _forget_unnamed(self, connection: Connection) -> None:
        """Remove jobs known by place alone: this ledger saw their files before it read the entries that named them."""
        if not self.moves or not connection.execute("SELECT 1 FROM job WHERE uid IS NULL LIMIT 1").fetchone():
            return
        places = {*self.origins, *(move[3] for move in self.moves)}
        connection.executemany(FORGET_UNNAMED, [(name_in_place(place), place) for place in places])

    def _write_submissions(self, connection: Connection, rows: dict[str, tuple[Any, ...]]) -> None:
        """Write the rows of submissions. Most jobs are new and were moved: these leave `rows` and are written whole."""
        said = {submission[0]: submission for submission in self.submissions}
        moved = [(rows[uid], submission) for uid, submission in said.items() if uid in rows]
        left = self.submissions
        if len(said) == len(left) and _add_jobs(connection, moved) == len(moved):
            left = [submission for submission in left if submission[0] not in rows]
            for row, _ in moved:
                del rows[row[0]]
        connection.executemany(SUBMIT, [(*submission, priority_in_name(submission[3])) for submission in left])

    def _write_attempts(self, connection: Connection) -> None:
        """Write attempts. Most are new and have ended: these are written whole."""
        forget_minutes(connection, (row[6] for row in self.ends))
        claims, starts, ends = self.claims, self.starts, self.ends
        start_of, end_of = {row[:3]: row for row in starts}, {row[:3]: row for row in ends}
        if claims and len(start_of) == len(starts) and len(end_of) == len(ends):
            whole = {}
            for claim in claims:
                end, start = end_of.get(claim[:3]), start_of.get(claim[:3])
                if end is not None:
                    whole[claim[:3]] = (*(end if start is None else (*end[:4], *start[4:], *end[6:])), claim[4])
            if connection.executemany(ADD_WHOLE_ATTEMPT, list(whole.values())).rowcount == len(whole):
                claims, starts, ends = (
                    [row for row in rows if row[:3] not in whole] for rows in (claims, starts, ends)
                )
        forget_minutes_of(connection, ends)
        for statement, rows in ((CLAIM_ATTEMPT, claims), (START, starts), (END, ends)):
            if rows:
                connection.executemany(statement, rows)
        if ends:
            connection.executemany(KNOW_PROCESS, [(*row[:3], *row[4:6]) for row in ends if row[4] is not None])


def _add_jobs(connection: Connection, jobs: list[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> int:
    """Add those of these jobs, each a row and a submission, which the ledger does not know; returns how many."""
    plain, others = [], []
    for row, submission in jobs:
        if submission[5:] == _DEFAULTS and row[8:] == _NOT_DELAYED:
            plain.append(row[:8] + submission[1:3])
        else:
            others.append(row[:8] + submission[1:3] + row[8:] + submission[5:])
    added: int = connection.executemany(ADD_PLAIN_JOB, plain).rowcount
    if others:
        added += connection.executemany(ADD_WHOLE_JOB, others).rowcount
    return added


def _write_moves(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    """Move jobs to where their latest moves took them, if those are later than the ledger's."""
    if connection.executemany(MOVE_JOB, rows).rowcount < len(rows):
        connection.executemany(ADD_JOB, rows)
        connection.executemany(MOVE_AND_RENAME_JOB, rows)


def _write_found_moves(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        connection.executemany(ADD_JOB, rows)
        connection.executemany(MOVE_FOUND_JOB, rows)


def _found_order(entry: Entry, order: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sort key of a move that was found. A removal is as late as the move before it, whenever it was noticed:
    any later move shows that the file is there. Raises ValueError or KeyError if the entry is invalid."""
    if type(entry.get("priority", 0)) is not int:
        raise ValueError("priority cannot be that")
    if entry["to"] != NOWHERE:
        return order
    if not is_time(entry["after"]):
        raise ValueError("after cannot be that")
    return (entry["number"] // LIFE, False, entry["after"], entry["number"], False, entry["from"])


def _job_row(order: tuple[Any, ...], entry: Entry, state: str) -> tuple[Any, ...]:
    place = order[5]
    name = name_in_place(place)
    category = category_of_place(place)
    return (
        entry["job"],
        name,
        state,
        place,
        entry.get("category", "") if category is None else category,
        entry["priority"] if entry["reason"] == FOUND and "priority" in entry else priority_in_name(name),
        order[2],
        order[3],
        entry.get("not_before", 0),
        entry.get("held_reason"),
    )


def _submission(uid: str, name: str, said: Entry, found_number: int) -> tuple[Any, ...]:
    return (
        uid,
        said.get("submitter"),
        said.get("submitted_at"),
        name,
        said.get("category", ""),
        said.get("retries"),
        said.get("retry_delay_s"),
        said.get("time_limit_s"),
        said.get("kind", ""),
        said.get("batch"),
        said.get("seed"),
        found_number,
        said.get("file") if found_number else None,
        None if "given" not in said else given_text(said["given"]),
        class_of(said["given"]) if "given" in said else "",
    )


# The kinds of entries that this version knows.
KINDS = ("submitted", "moved", "started", "ended", "tasks", *OTHER_KINDS)


def apply_entry(connection: Connection, entry: Entry) -> None:
    """Apply one entry. An entry of a kind that this version does not know changes nothing."""
    chunk = _Chunk()
    chunk.add(entry)
    chunk.write(connection)


def apply_entries(connection: Connection, entries: Sequence[Entry]) -> int:
    """Apply entries; returns how many are invalid (they parse, but make no sense) and were skipped."""
    chunk = _Chunk()
    refused = 0
    for entry in entries:
        try:
            chunk.add(entry)
        except _NO_ENTRY:
            refused += 1
    connection.execute("SAVEPOINT chunk")
    try:
        chunk.write(connection)
    except UnicodeDecodeError:
        raise  # so SQLite reports a damaged ledger
    except _refusals(connection):
        # An entry holds what no row can. Applying them one at a time shows which.
        connection.execute("ROLLBACK TO chunk")
        refused = sum(not _try_entry(connection, entry) for entry in entries)
    connection.execute("RELEASE chunk")
    return refused


def _refusals(connection: Connection) -> tuple[type[Exception], ...]:
    """The errors that writing an invalid entry raises, with those of the connection's own driver."""
    return (
        *_NO_ENTRY,
        connection.IntegrityError,
        connection.InterfaceError,
        connection.ProgrammingError,
        connection.DataError,
    )


def _try_entry(connection: Connection, entry: Entry) -> bool:
    connection.execute("SAVEPOINT entry")
    try:
        apply_entry(connection, entry)
        return True
    except UnicodeDecodeError:
        raise
    except _refusals(connection):
        connection.execute("ROLLBACK TO entry")
        return False
    finally:
        connection.execute("RELEASE entry")
