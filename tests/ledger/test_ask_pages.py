"""Pages of jobs: one after the other they have each job once, in every order, and each costs as much as the first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jobjar.jar import Jar
from jobjar.ledger import ask_pages
from jobjar.ledger.ask_pages import ENDED, ENDED_FIRST, NEWEST, OLDEST, ORDERS, STATE, page_of_jobs
from jobjar.ledger.ask_selected import Filters, jobs_of_filters
from jobjar.ledger.driver import Connection
from tests.rig import Rig

_JOB = "INSERT INTO job (id, uid, name, state, place, category, priority, submitter, submitted_at, moved_at, move_number) VALUES "
_END = "INSERT INTO attempt (job_uid, number, worker, worker_uid, started_at, ended_at, outcome, is_final, exit_status) VALUES "


def fill(connection: Connection) -> None:
    """Jobs of all states; many have a time, a priority or a category in common, and some have none."""
    states = ("claimed", "limbo", "unclaimed", "completed")
    for row, (state, number) in enumerate(itertools.product(states, range(60)), 1):
        uid: Any = f"{state[:3]}{number:09}"
        name = f"20260102T0304{number % 60:02}Z-{uid}-rain-1-{number}-ann-{'odd' if number % 2 else 'even'}.0"
        place = {"claimed": f"workers/rain.7/jobs/{name}"}.get(state, f"{state}/{name}")
        category, priority = ("", "A", "B")[number % 3], number % 4 - 1
        submitted_at = None if state == "unclaimed" and number % 5 == 0 else float(number // 7)
        values = (row, uid, name, state, place, category, priority, "ann", submitted_at, float(number // 9), 2)
        connection.execute(_JOB + "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        if state == "completed":
            outcome = "failed" if number % 11 == 0 else "succeeded"
            end = (uid, 1, "rain.7", "w1", 1.0, 100.0 + number // 8, outcome, 1, 3 if outcome == "failed" else 0)
            connection.execute(_END + "(?, ?, ?, ?, ?, ?, ?, ?, ?)", end)


@pytest.fixture
def jar(rig: Rig) -> Jar:
    jar = rig.open()
    jar.ledger.open()
    with jar.ledger.writing() as connection:
        fill(connection)
    return jar


def read_all(jar: Jar, filters: Filters, order: str, limit: int) -> list[int]:
    """The rows of all pages."""
    found: list[int] = []
    cursor = None
    for _ in range(1_000):
        page = page_of_jobs(jar.ledger.connection, filters, order, cursor, limit)
        assert len(page.jobs) <= limit
        found += [job.id for job in page.jobs]
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("there is no last page")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(states=("waiting", "ended")),
        Filters(outcomes=("failed",)),
        Filters(categories=("A",)),
        Filters(categories=("B",), outcomes=("succeeded",)),
        Filters(names=("*odd*",)),
        Filters(nodes=("rain",)),
        Filters(since=3.0),
        Filters(exit_statuses=(3,)),
    ],
    ids=lambda filters: "-".join(name for name, value in filters._asdict().items() if value) or "all",
)
def test_the_pages_have_each_job_once_whatever_their_length(
    jar: Jar, monkeypatch: pytest.MonkeyPatch, filters: Filters, order: str
) -> None:
    asked = filters._replace(states=("ended",)) if order in (ENDED, ENDED_FIRST) else filters
    wanted = {job.id for job in jobs_of_filters(jar.ledger.connection, asked)}
    for few in (False, True):
        if few:  # short runs, and pages that are not full
            for name in ("_READ", "_READ_NAMES", "_READ_INDEX"):
                monkeypatch.setattr(ask_pages, name, 7)
        for limit in (1, 3, 50, 1000):
            found = read_all(jar, filters, order, limit)
            assert len(found) == len(set(found)) and set(found) == wanted, (limit, few)


def test_the_orders_are_those_of_the_list_of_names_and_of_ends(jar: Jar) -> None:
    connection = jar.ledger.connection
    listed = [job.id for job in jobs_of_filters(connection, Filters(states=("waiting",)))]
    assert read_all(jar, Filters(states=("waiting",)), STATE, 7) == listed
    jobs = {job.id: job for job in jobs_of_filters(connection, Filters())}
    names = [(jobs[row].name, row) for row in read_all(jar, Filters(), NEWEST, 7)]
    assert names == sorted(names, reverse=True)
    assert read_all(jar, Filters(), OLDEST, 7) == [row for _, row in reversed(names)]
    ends = [jobs[row].ended_at or 0.0 for row in read_all(jar, Filters(), ENDED, 7)]
    assert ends == sorted(ends, reverse=True)
    assert [jobs[row].ended_at for row in read_all(jar, Filters(), ENDED_FIRST, 7)] == ends[::-1]


def test_a_cursor_of_somebody_s_making_is_refused(jar: Jar) -> None:
    for order, cursor in (
        (STATE, ("nix", ())),
        (STATE, ("waiting", (1, 2))),
        (STATE, ("ended", ("x", "y", "z"))),
        (NEWEST, (NEWEST, (True, False))),
        (ENDED, ("waiting", ())),
    ):
        with pytest.raises(ValueError):
            page_of_jobs(jar.ledger.connection, Filters(), order, cursor, 10)
