"""A turn of pilots that is killed before and after each of its writes: none is submitted twice for one need, none is
forgotten."""

from __future__ import annotations

from pathlib import Path

from tests.crash.case import Case, kill_everywhere
from tests.crash.nursery import Nursery

# Programs as Slurm's, over a directory that has a file for each job: its state. `asked` has a line for each submission.
SBATCH = """#!/bin/sh
for word; do case $word in --job-name=*) name=${word#*=};; esac; done
echo $name >> asked; echo PENDING > job.$name; wc -l < asked"""
SQUEUE = """#!/bin/sh
for file in job.*; do
  test -e $file && echo "$(grep -n "^${file#job.}$" asked | cut -d: -f1)|$(cat $file)|None||${file#job.}"
done
exit 0"""
SCANCEL = """#!/bin/sh
echo CANCELLED > job.$(sed -n "${1}p" asked)"""


def system_of(case: Case) -> Path:
    return case.directory / "system"


def a_job_and_pilots(case: Case) -> None:
    """A job waits, and there are pilots that nobody submitted yet."""
    system = system_of(case)
    system.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        lines = text.splitlines()
        (system / name).write_text("\n".join([lines[0], f"cd {system} || exit", *lines[1:]]) + "\n")
        (system / name).chmod(0o755)
    case.do("add_pilots")
    case.submit()


def a_pilot_that_began(case: Case) -> None:
    """A pilot waits in the system, and the node of another has failed."""
    a_job_and_pilots(case)
    case.submit()
    case.do("take_turn", path=str(system_of(case)))
    first, _ = sorted(system_of(case).glob("job.*"))
    first.write_text("NODE_FAIL\n")


def live(case: Case) -> list[str]:
    """The pilots that the system has not ended, by name."""
    jobs = system_of(case).glob("job.*")
    return sorted(job.name.removeprefix("job.") for job in jobs if job.read_text() == "PENDING\n")


def take_turns(case: Case) -> None:
    """Cron goes on. What was about to be submitted, and is not known to the system, was never submitted."""
    for _ in range(2):
        case.do("take_turn", path=str(system_of(case)), listed_after_s=0.0)
    seen = case.do("look_at_pilots").result
    jobs = len([name for name in (case.home / "unclaimed").iterdir() if name.is_file()])
    assert len(live(case)) == jobs, f"{jobs} jobs wait, and the system has {live(case)}"
    assert seen["files"] == seen["ledger"] == dict.fromkeys(live(case), "waiting")
    assert len(set((system_of(case) / "asked").read_text().split())) <= jobs + 1


def no_pilot_is_left(case: Case) -> None:
    """The jobs are done; pilots that wait are not needed any more."""
    for _ in range(2):
        case.do("take_turn", path=str(system_of(case)), listed_after_s=0.0)
    seen = case.do("look_at_pilots").result
    assert live(case) == [] and seen["files"] == seen["ledger"] == {}
    assert seen["others"] == []
    assert case.do("check").result == []


def turn_of(case: Case) -> str:
    return str(system_of(case))


def test_a_killed_submission_is_looked_up_and_not_made_again(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    killed = kill_everywhere(
        *(nursery, template, tmp_path, a_job_and_pilots, "take_turn", 5),
        heal=take_turns,
        then=no_pilot_is_left,
        path=turn_of,
    )
    assert killed > 8


def test_an_end_that_was_half_noted_is_noted_again(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    killed = kill_everywhere(
        *(nursery, template, tmp_path, a_pilot_that_began, "take_turn", 7),
        heal=take_turns,
        then=no_pilot_is_left,
        path=turn_of,
    )
    assert killed > 8
