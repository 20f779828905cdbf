"""Monitored variables as they change: what is told of them, and how often they are looked at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from jobjar.publishing.monitor import FULL_PACE, Monitor

WHO = {"job": "j", "attempt": 2, "worker": "rain.7", "worker_uid": "wkr1"}


def make_monitor(progress_time_s: float = 30.0) -> Monitor:
    """Of an attempt of a worker that knows no jar."""
    settings = SimpleNamespace(progress_time_s=progress_time_s)
    claimer = SimpleNamespace(
        paths=SimpleNamespace(name="rain.7"), worker_id="wkr1", jar=SimpleNamespace(settings=settings)
    )
    return Monitor(cast(Any, claimer), cast(Any, SimpleNamespace(uid="j", attempt=2)))


def test_only_what_changed_is_told_and_which_of_its_values_it_is(tmp_path: Path) -> None:
    monitor = make_monitor()
    for text in ("", "n = 1\nmodel = x\nhalf = 1", "n = 1\nmodel = x\n", "n = 2\n", "model = x\nn = 1\n"):
        (tmp_path / "jug_monitor.vars").write_text(text)
        monitor.look(str(tmp_path), 5.0)
    told: list[dict[str, Any]] = [
        {"variables": {"n": "1", "model": "x"}},
        {"variables": {"n": "2"}, "ordinals": {"n": 2}},
        {"variables": {"n": "1"}, "ordinals": {"n": 3}},
    ]
    expected = [{"entry": "variables", **WHO, "told_at": 5.0, **said} for said in told]
    assert monitor.take_entries() == expected and monitor.take_entries() == []


def test_a_variable_that_changes_for_ever_is_looked_at_a_bounded_number_of_times() -> None:
    """A job that says something new all the time, for 1e6 times its JJ_PROGRESS_TIME (a year): its journal stays short."""
    monitor, passed_s, looks = make_monitor(), 0.0, 0
    while passed_s < 1e6 * 30.0:
        monitor.note({"n": f"{looks}"}, passed_s)
        looks, passed_s = looks + 1, passed_s + monitor.pause_s
    assert FULL_PACE < looks < 10 * FULL_PACE
    assert sum(len(repr(entry)) for entry in monitor.take_entries()) < 4 << 20


def test_many_variables_are_looked_at_less_often_for_that() -> None:
    monitor = make_monitor()
    for look in range(10):
        monitor.note({f"n{number}": f"{look}" for number in range(FULL_PACE)}, 0.0)
    assert monitor.pause_s == 30.0 * 2**10
