"""Questions to the ledger about the jobs that a person steers. They take the driver's connection and only read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jobjar.job_file.names import is_own_name
from jobjar.job_file.prerequisites import is_dependent
from jobjar.ledger.ask_claiming import CANDIDATE_COLUMNS, Candidate
from jobjar.ledger.ask_selected import DEPENDENT, HELD, STATES
from jobjar.ledger.driver import Connection
from jobjar.ledger.renamed import own_name

_AT_ONCE = 500
_OUTCOME = (
    "CASE state WHEN 'completed' THEN (SELECT outcome FROM attempt WHERE job_uid = job.uid AND is_final = 1 "
    "ORDER BY number DESC, ended_at DESC, worker_uid DESC LIMIT 1) END"
)
# The words of people for the ledger's states.
_WORDS = {state: word for word, state in STATES.items() if word in ("running", HELD, "waiting", "ended", "removed")}


class SteeredJob(NamedTuple):
    """A job as the ledger has it now. `own_name` is the name that its file gets when it is moved: a hand's is not kept.
    `outcome` is that of an ended job, if it is known."""

    job: Candidate
    state: str
    not_before: float
    held_reason: str | None
    outcome: str | None
    own_name: str

    @property
    def word(self) -> str:
        """The state as people call it."""
        return DEPENDENT if self.state == "limbo" and is_dependent(self.held_reason) else _WORDS[self.state]

    @property
    def title(self) -> str:
        """What to call the job in a message."""
        return self.job.uid or self.job.name


def steered_jobs(connection: Connection, rows: Iterable[int]) -> Iterator[SteeredJob]:
    """The jobs of these rows that the ledger still has, in this order."""
    wanted = list(rows)
    for start in range(0, len(wanted), _AT_ONCE):
        some, found = wanted[start : start + _AT_ONCE], {}
        query = (
            f"SELECT {CANDIDATE_COLUMNS}, state, not_before, held_reason, {_OUTCOME} FROM job "
            f"WHERE id IN ({','.join('?' * len(some))})"
        )
        for row in connection.execute(query, some).fetchall():
            job = Candidate(*row[:-4])
            state, not_before, held_reason, outcome = row[-4:]
            is_renamed = job.uid is not None and job.move_number > 0 and not is_own_name(job.name, job.uid)
            name = own_name(connection, str(job.uid), job.name, job.priority) if is_renamed else job.name
            found[job.row] = SteeredJob(job, state, not_before, held_reason, outcome, name)
        yield from (found[row] for row in some if row in found)
