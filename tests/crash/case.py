"""One case of a crash test: a jar of its own, what was killed in it, and what has to be true in the end."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobjar.job_file.names import id_in_name
from jobjar.layout import name_in_place
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Answer, Nursery

Step = Callable[["Case"], Any]

# How many times one test of a usual run kills what it tests.
MOST_DEATHS = 20


class Case:
    """A jar; `submitted` has the names of the jobs that a submission reported, `dropped` those put there by hand."""

    def __init__(self, nursery: Nursery, template: Path, directory: Path) -> None:
        self.nursery = nursery
        self.directory = directory
        self.home = directory / "jar"
        shutil.copytree(template, self.home)
        self.log = directory / "log"
        self.log.touch()
        self.submitted: list[str] = []
        self.dropped: list[str] = []
        self.held: list[str] = []
        # Whether jobs may complete cancelled, without a run.
        self.may_cancel = False
        # What works through the jar in the end: scenarios, in order.
        self.workers = ["work"]

    def do(self, scenario: str, plan: Plan | None = None, **arguments: Any) -> Answer:
        return self.nursery.do(self.home, scenario, plan, **arguments)

    def do_each(self, *scenarios: str) -> list[Any]:
        """The results of several scenarios, which one child does one after the other."""
        results: list[Any] = self.do("several", scenarios=scenarios).result
        return results

    def command(self, then: str = "true") -> str:
        """A job that says in the log that it runs, and does `then`."""
        return f'echo "$JJ_JOB" >> "{self.log}"; {then}'

    def submit(self, then: str = "true", **options: Any) -> None:
        self.submitted += self.do("submit_command", command=self.command(then), **options).result

    def drop(self, name: str, header: str = "") -> None:
        """A submission by hand: a file in limbo, renamed to unclaimed."""
        written = self.home / "limbo" / name
        written.write_text(f"#!/bin/sh\n{header}\n{self.command()}\n")
        written.chmod(0o755)
        written.rename(self.home / "unclaimed" / name)

    def runs(self) -> Counter[str]:
        """How often each job, by its name, has run."""
        return Counter(self.log.read_text().splitlines())

    def assert_recovered_and_done(self) -> None:
        """Recover, check, work, check; and every job was run and completed, once, or is where it may be."""
        runs_before = self.runs()
        before, _, different = self.do_each("look", "recover", "check")
        assert different == []
        assert self.do("recover").result == []
        for scenario in self.workers:
            self.do(scenario)
        after, different = self.do_each("look", "check")
        assert different == []
        assert after["links"] == []
        assert [name for name in after["ledger"] if name.endswith(".new")] == []
        names = Counter(name_in_place(place) for place in after["places"])
        assert [name for name, count in names.items() if count > 1] == []
        for name in self.submitted + self.dropped:
            self._assert_completed_once(name, after)
        for name in self.held:
            assert f"limbo/{name}" in after["places"] and self.runs()[name] == 0
        for place in after["places"]:
            if name_in_place(place) not in (*self.submitted, *self.dropped, *self.held):
                # Its submission was killed: it is wholly in, and then it ran, or it is in limbo.
                if place.startswith(("completed/", "archive/")):
                    self._assert_completed_once(name_in_place(place), after)
                else:
                    assert place.startswith("limbo/") and self.runs()[name_in_place(place)] == 0, place
        for entry in before["entries"]:
            if entry["entry"] == "ended" and entry["final"]:
                name = next(name for name in names if id_of(name, after) == entry["job"])
                assert self.runs()[name] == runs_before[name], f"{name} ran again after its outcome was journaled"

    def _assert_completed_once(self, name: str, after: dict[str, Any]) -> None:
        ended = [place for place in after["places"] if place.startswith(("completed/", "archive/"))]
        assert name in map(name_in_place, ended), f"{name}: {after['places']}"
        final = {
            (entry["attempt"], entry["worker_uid"], entry["outcome"])
            for entry in after["entries"]
            if entry["entry"] == "ended" and entry["job"] == id_of(name, after) and entry["final"]
        }
        assert len(final) == 1, f"{name} has {len(final)} outcomes"
        if self.may_cancel and next(iter(final))[2] == "cancelled":
            assert self.runs()[name] == 0, f"{name} ran and was cancelled"
        else:
            assert self.runs()[name] >= 1, f"{name} never ran"


def id_of(name: str, seen: dict[str, Any]) -> str | None:
    """A job's id: in its name, or given to it by its claim."""
    moves = (entry for entry in seen["entries"] if entry["entry"] == "moved" and name_in_place(entry["to"]) == name)
    return id_in_name(name) or next((entry["job"] for entry in moves), None)


def _tally(scenario: str, killed: int, failed: int) -> None:
    """Count what was killed, for `make faults`, in the file that FAULTS_TALLY names."""
    path = os.environ.get("FAULTS_TALLY")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"scenario": scenario.replace("_", " "), "killed": killed, "failed": failed}) + "\n")


def plan_deaths(points: int, step: int) -> list[Plan]:
    """Before and after each of so many writes: each `step`-th of these cases. With step 2 those after a write are left out:
    what is on the disk is the same before the next one. `make faults` takes at least every second; other runs take no more
    than a few dozen, spread over all."""
    if os.environ.get("FAULTS_TALLY"):
        step = min(step, 2)
    elif 2 * points > step * MOST_DEATHS:
        step = 2 * points // MOST_DEATHS | 1  # an odd step takes some before and some after a write
    return [Plan(number, when) for number in range(1, points + 1) for when in (BEFORE, AFTER)][::step]


def kill_everywhere(
    nursery: Nursery,
    template: Path,
    directory: Path,
    prepare: Step,
    scenario: str,
    step: int,
    heal: Step | None = None,
    then: Step = lambda case: None,
    make: type[Case] = Case,
    **arguments: Any,
) -> int:
    """Kill `scenario` before and after its writes (`plan_deaths`), each time in the same jar, which `prepare` made ready;
    returns how many times it was killed. Arguments may be functions of the case. `then` is done with each jar in the end.

    `heal` is done before each case is looked at: what a person does after the crash. `make` makes the case.
    """
    case = make(nursery, template, directory / "case")
    prepare(case)
    values = {key: value(case) if callable(value) else value for key, value in arguments.items()}
    saved = directory / "saved"
    shutil.copytree(case.directory, saved, symlinks=True)
    points = case.do(scenario, Plan(), **values).points
    if heal is not None:
        heal(case)
    case.assert_recovered_and_done()
    then(case)
    plans = plan_deaths(len(points), step)
    killed = 0
    failures = []
    for plan in plans:
        shutil.rmtree(case.directory)
        shutil.copytree(saved, case.directory, symlinks=True)
        answer = case.do(scenario, plan, **values)
        killed += answer.killed
        try:
            if heal is not None:
                heal(case)
            case.assert_recovered_and_done()
            then(case)
        except AssertionError as error:
            label = answer.points[-1].replace(str(directory), "…")
            failures.append(f"killed {plan.when} point {plan.number}, {label}: {error}")
    _tally(f"{scenario}: {prepare.__name__}", killed, len(failures))
    assert not failures, f"{len(failures)} of {killed} cases:\n" + "\n".join(failures[:10])
    assert case.do("processes").result == []
    # How often a loop goes round differs a little from run to run; most points have to be there each time.
    assert killed >= len(plans) * 0.8
    return killed
