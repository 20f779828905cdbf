"""Two ledger homes settle the same dependents, or the rest of one batch, at once, also while a person holds or cancels: each job
moves once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.batches.submit import submit_batches
from jobjar.batches.submit_file import parse_submit_file
from jobjar.jar import Jar, open_jar
from jobjar.ledger.fail_fast import rest_of_batch
from jobjar.ledger.fold import fold_journals
from jobjar.selecting.selection import make_selection
from jobjar.stages.submit import describe_command, submit, submit_all
from jobjar.steering import dependents
from jobjar.steering.cancel import Cancel
from jobjar.steering.dependents import Settled, settle_dependents
from jobjar.steering.steer import steer
from jobjar.steering.waiting import Hold
from tests.rig import Rig

JOBS = 6


def open_homes(rig: Rig, tmp_path: Path) -> list[Jar]:
    return [
        open_jar(environment={**rig.environment, "JJ_LEDGER_HOME": str(tmp_path / name), "JJ_NODE": name})
        for name in ("rain", "snow")
    ]


def fold(jar: Jar) -> None:
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)


def make_due(rig: Rig, rain: Jar, snow: Jar) -> list[str]:
    """Dependents of a job that has succeeded, and as many of one that has failed; both homes know, and nobody has moved any."""
    ends = [submit(rain, describe_command(command)) for command in ("true", "false")]
    found = [describe_command("true", attributes={"after": [rain_id(name)]}) for name in ends for _ in range(JOBS)]
    names = submit_all(rain, found)
    for name, outcome in zip(ends, ("succeeded", "failed"), strict=True):
        end_job(rain, name, outcome)
    for jar in (rain, snow):
        fold(jar)
    return names


def rain_id(name: str) -> str:
    return name.split("-")[1]


def end_job(jar: Jar, name: str, outcome: str) -> None:
    """What a worker leaves of a job that it ran."""
    path = Path(jar.layout.unclaimed, name)
    run = {"worker": "rain.7", "worker_uid": "wkr1", "attempt": 1}
    uid, number = rain_id(name), 2
    now = jar.disk_now()
    path.rename(Path(jar.layout.completed, name))
    jar.journal.append(
        [
            {"entry": "ended", "job": uid, **run, "ended_at": now, "outcome": outcome, "final": True},
            {
                "entry": "moved",
                "job": uid,
                "number": number,
                "from": f"unclaimed/{name}",
                "to": f"completed/{name}",
                "moved_at": now,
                "reason": "completed",
                "by": "rain.7",
                "category": "",
            },
        ]
    )


def act_before(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Act once, between the look of the next call of `settle_dependents` and its first rename."""
    usual = dependents._judge
    acted: list[bool] = []

    def judge(*arguments: Any) -> Any:
        judged = usual(*arguments)
        if not acted:
            acted.append(True)
            act()
        return judged

    monkeypatch.setattr(dependents, "_judge", judge)


def assert_each_moved_once(rig: Rig, names: list[str], jars: list[Jar]) -> None:
    good, bad = names[:JOBS], names[JOBS:]
    assert sorted(rig.names("unclaimed")) == sorted(good)
    assert set(bad) < set(rig.names("completed")) and rig.names("limbo") == []
    for jar in jars:
        fold(jar)
        for name in names:
            moves = jar.ledger.connection.execute(
                "SELECT reason FROM move WHERE job_uid = ? ORDER BY number", (rain_id(name),)
            ).fetchall()
            assert [reason for (reason,) in moves] == ["submitted", "released" if name in good else "cancelled"]
            ends = jar.ledger.connection.execute("SELECT count(*) FROM attempt WHERE job_uid = ?", (rain_id(name),))
            assert ends.fetchone() == (int(name in bad),)
        assert settle_dependents(jar) == (0, 0, [], False)
        jar.close()
        rig.assert_clean(JJ_LEDGER_HOME=jar.settings.ledger_home or "", JJ_NODE="rain")


def test_two_nodes_that_settle_at_once_move_each_dependent_once(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rain, snow = open_homes(rig, tmp_path)
    names = make_due(rig, rain, snow)
    done: list[Any] = []
    act_before(monkeypatch, lambda: done.append(settle_dependents(snow)))
    assert settle_dependents(rain) == (0, 0, [], False)
    assert done == [(JOBS, JOBS, [], False)]
    assert_each_moved_once(rig, names, [rain, snow])


@pytest.mark.parametrize("verb", [Hold, Cancel])
def test_a_verb_at_the_same_moment_is_done_or_refused(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[str], Any]
) -> None:
    rain, snow = open_homes(rig, tmp_path)
    names = make_due(rig, rain, snow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobjar.steering.steer.fold_and_settle", lambda jar: None)
        act_before(monkeypatch, lambda: steer(snow, make_selection(names[0]), verb("root")))
        settled = settle_dependents(rain)
    for jar in (rain, snow):
        fold(jar)
    if verb is Cancel:
        assert (settled.released, rig.names("completed").count(names[0])) == (JOBS - 1, 1)
    else:  # the hold is an entry: the rename, which came after it, decides
        assert settled.released == JOBS and names[0] in rig.names("unclaimed")
    states = [
        jar.ledger.connection.execute("SELECT state FROM job WHERE uid = ?", (rain_id(names[0]),)).fetchone()
        for jar in (rain, snow)
    ]
    assert states == [("completed",) if verb is Cancel else ("unclaimed",)] * 2
    for jar in (rain, snow):
        jar.close()
    rig.assert_clean(JJ_LEDGER_HOME=str(tmp_path / "rain"), JJ_NODE="rain")


def test_two_nodes_cancel_the_rest_of_a_failed_batch_once_while_a_worker_claims_of_it(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rain, snow = open_homes(rig, tmp_path)
    text = f'batch\nname = "b"\nfail_fast = yes\nseeds = "1-{JOBS}"\nrun_command = "true"\n'
    submit_batches(rain, parse_submit_file(text, "b", {}))
    names = sorted(rig.names("unclaimed"))
    for jar in (rain, snow):
        fold(jar)
    end_job(rain, names[0], "failed")
    fold(snow)
    claimed = Path(rain.layout.unclaimed, names[1])
    acted: list[Settled] = []

    def look(*arguments: Any) -> Any:
        """After the look of one node, a worker takes a job (and has not journaled that), and the other node does all."""
        rest = rest_of_batch(*arguments)
        if not acted:
            acted.append(Settled(0, 0, []))
            claimed.rename(tmp_path / names[1])
            acted.append(settle_dependents(snow))
        return rest

    monkeypatch.setattr("jobjar.steering.fail_fast.rest_of_batch", look)
    assert settle_dependents(rain) == (0, 0, [], True)
    assert acted[1] == (0, JOBS - 2, [], True)
    # The worker gives it back: it is met by the next look, of whichever node.
    (tmp_path / names[1]).rename(claimed)
    assert settle_dependents(rain) == (0, 1, [], False) and settle_dependents(snow) == (0, 0, [], False)
    assert sorted(rig.names("completed")) == names and rig.names("limbo") == []
    for jar in (rain, snow):
        fold(jar)
        query = "SELECT outcome, count(*) FROM attempt GROUP BY outcome ORDER BY outcome"
        assert jar.ledger.connection.execute(query).fetchall() == [("cancelled", JOBS - 1), ("failed", 1)]
        jar.close()
    rig.assert_clean(JJ_LEDGER_HOME=str(tmp_path / "rain"), JJ_NODE="rain")
