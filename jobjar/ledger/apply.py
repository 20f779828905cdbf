"""Apply entries of journals to a ledger, a chunk at a time, with the same result in any order.

Why the order does not matter: rows of history have keys that come from the entry, so writing one twice changes nothing.
A job's row takes the *latest* of its moves: one of a later life (journal/entries.LIFE) before all, then one to completed,
then the later time (the disk's), then the higher number, then a claim, then by place. What an attempt has once become
(lost, final) is never taken back. So a chunk may be put together in memory first: only a job's latest move is compared with
its row, and an attempt that began and ended in the chunk is written once. Writes rows inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from jobjar.job_file.names import priority_in_name
from jobjar.job_file.request import class_of
from jobjar.journal.entries import LIFE
from jobjar.journal.read import Entry
from jobjar.layout import NOWHERE, category_of_place, name_in_place
from jobjar.ledger.apply_others import OTHER_KINDS, attempt_key, rows_of_other, thin_histories
from jobjar.ledger.by_hand import FOUND
from jobjar.ledger.counts import count_new_jobs, forget_minutes, forget_minutes_of
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import note_dependents
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
# How the places of jobs that have ended begin.
_HAVE_ENDED = ("completed", "archive")
_COMMON_KINDS = frozenset(["moved", "ended", "submitted", "started"])
# The row of a move (ADD_MOVE in precedence.py).
_MOVE_ROW = itemgetter("job", "number", "moved_at", "to", "from", "reason", "by")
# The values of the other columns (precedence.py) that most jobs have.
_DEFAULTS = (None, None, None, "", None, None, 0, None, None, "")


class _Chunk:
    """The rows that a chunk of entries comes to. An invalid entry raises an error and adds nothing."""

    def __init__(self) -> None:
        # By job, the entry of its latest move.
        self.latest: dict[str, Entry] = {}
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

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries, a kind at a time. Raises one of `_NO_ENTRY` for an invalid one; a single one then adds nothing."""
        kinds = [entry["entry"] for entry in entries]
        there = set(kinds)

        def of_kind(kind: str) -> Sequence[Entry]:
            if len(there) == 1:
                return entries
            return [entry for entry, its in zip(entries, kinds, strict=True) if its == kind]

        if "moved" in there:
            self._add_moves(of_kind("moved"))
        if "ended" in there:
            self.ends += [_end_row(entry) for entry in of_kind("ended")]
        if "submitted" in there:
            said = of_kind("submitted")
            self.submissions += [_submission(entry["job"], entry["name"], entry, 0) for entry in said]
            marks = [(entry["file"], entry["job"]) for entry in said if "file" in entry]
            self.file_marks += [(mark, uid) for mark, uid in marks if isinstance(mark, str)]
        if "started" in there:
            started = of_kind("started")
            self.starts += [
                (*attempt_key(entry), entry["worker"], entry["pid"], entry["pid_started"]) for entry in started
            ]
        if not there <= _COMMON_KINDS:
            for kind, entry in zip(kinds, entries, strict=True):
                if kind not in _COMMON_KINDS:
                    self._add_other(kind, entry)

    def _add_other(self, kind: str, entry: Entry) -> None:
        if kind in OTHER_KINDS:
            self.others += rows_of_other(kind, entry)
            if kind == "variables":
                self.variables.append(entry)
        if "array" in entry:
            self.of_arrays.append(entry)

    def _add_moves(self, entries: Sequence[Entry]) -> None:
        rows = [*map(_MOVE_ROW, entries)]
        if not {row[3].partition("/")[0] for row in rows} <= _STATE_OF_TOP.keys():
            raise ValueError("to is not in a jar")
        claims = [
            (row[0], entry["attempt"], entry["worker_uid"], row[6], row[2])
            for row, entry in zip(rows, entries, strict=True)
            if row[5] == "claimed" and "attempt" in entry
        ]
        found = [
            (_submission(row[0], name_in_place(row[3]), entry["found"], max(row[1], 1)), row[4])
            for row, entry in zip(rows, entries, strict=True)
            if "found" in entry and entry["found"] is not None
        ]
        latest = self.latest
        for row, entry in zip(rows, entries, strict=True):
            if row[5] == FOUND or row[3] == NOWHERE:
                _move_order(entry)  # it is invalid if it has none
            before = latest.get(row[0])
            if before is None or _is_later(entry, before):
                latest[row[0]] = entry
        self.moves += rows
        self.claims += claims
        self.submissions += [submission for submission, _ in found]
        self.origins += [origin for _, origin in found]
        self.removals += [row[:2] for row in rows if row[3] == NOWHERE]

    def write(self, connection: Connection) -> None:
        """Apply all rows to the ledger. Raises one of `_refusals` if one of the entries is invalid."""
        rows = {uid: _job_row(entry) for uid, entry in self.latest.items()}
        self._check(list(rows.values()))
        self._forget_unnamed(connection)
        if self.submissions:
            self._write_submissions(connection, rows)
            if self.file_marks:
                connection.executemany("INSERT OR IGNORE INTO file_mark VALUES (?, ?)", self.file_marks)
        if rows:
            found = {uid for uid in rows if self.latest[uid]["reason"] == FOUND}
            _write_moves(connection, [row for uid, row in rows.items() if uid not in found])
            _write_found_moves(connection, [rows[uid] for uid in found])
        if self.moves:
            connection.executemany(ADD_MOVE, self.moves)
        if self.removals:
            connection.executemany(KEEP_FIRST_REMOVAL, self.removals)
        self._write_attempts(connection)
        for statement, values in self.others:
            connection.execute(statement, values)
        if self.of_arrays:
            # Who submits a job has no use for these.
            from jobjar.ledger.apply_tasks import apply_of_arrays
            from jobjar.ledger.partners import note_arrays

            apply_of_arrays(connection, self.of_arrays)
            note_arrays(connection, self.of_arrays)
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


def _is_later(entry: Entry, other: Entry) -> bool:
    """Whether a job's move is the later one of two, and a program's own entry of a move that was found too."""
    if (
        entry["number"] > other["number"]
        and entry["moved_at"] >= other["moved_at"]
        and not other["to"].startswith(_HAVE_ENDED)
        and entry["to"] != NOWHERE
        and other["to"] != NOWHERE
    ):
        return True  # what the sort keys say, in the time of a comparison: most moves come one after the other
    order, known = _move_order(entry), _move_order(other)
    return order > known or (order == known and other["reason"] == FOUND)


def _move_order(entry: Entry) -> tuple[Any, ...]:
    """The sort key of a move among a job's moves. A removal is as late as the move before it, whenever it was noticed: any
    later move shows that the file is there. Raises ValueError or KeyError if the entry of a move that was found is invalid."""
    place, moved_at, number = entry["to"], entry["moved_at"], entry["number"]
    if entry["reason"] == FOUND or place == NOWHERE:
        if type(entry.get("priority", 0)) is not int:
            raise ValueError("priority cannot be that")
        if place == NOWHERE:
            if not is_time(entry["after"]):
                raise ValueError("after cannot be that")
            return (number // LIFE, False, entry["after"], number, False, entry["from"])
    state = _STATE_OF_TOP[place.partition("/")[0]]
    return (number // LIFE, state == "completed", moved_at, number, state == "claimed", place)


def _job_row(entry: Entry) -> tuple[Any, ...]:
    _, _, moved_at, number, _, place = _move_order(entry)
    name = name_in_place(place)
    category = category_of_place(place)
    return (
        entry["job"],
        name,
        _STATE_OF_TOP[entry["to"].partition("/")[0]],
        place,
        entry.get("category", "") if category is None else category,
        entry["priority"] if entry["reason"] == FOUND and "priority" in entry else priority_in_name(name),
        moved_at,
        number,
        entry.get("not_before", 0),
        entry.get("held_reason"),
    )


def _end_row(entry: Entry) -> tuple[Any, ...]:
    get = entry.get
    outcome = entry["outcome"]
    return (
        *(entry["job"], entry["attempt"], entry["worker_uid"], entry["worker"], get("pid"), get("pid_started")),
        *(get("ended_at"), outcome, 1 if get("final") and outcome != "lost" else 0, get("exit_status"), get("signal")),
        *(get("wall_time_s"), get("user_cpu_s"), get("system_cpu_s"), get("max_rss_kib"), get("output_file")),
        get("message"),
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
    chunk.add([entry])
    chunk.write(connection)


def apply_entries(connection: Connection, entries: Sequence[Entry]) -> int:
    """Apply entries; returns how many are invalid (they parse, but make no sense) and were skipped."""
    chunk = _Chunk()
    refused = 0
    try:
        chunk.add(entries)
    except _NO_ENTRY:
        chunk = _Chunk()
        for entry in entries:
            try:
                chunk.add([entry])
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
