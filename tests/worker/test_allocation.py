"""The end of an allocation is found by itself: real Slurm in tests/hosts/test_slurm.py, here what each system says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobjar.worker.allocation import Allocation, end_in_allocation, find_allocation

AT = time.mktime((2027, 1, 2, 18, 0, 0, 0, 0, -1))
IN_SLURM = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n1"}
IN_PBS = {"PBS_JOBID": "7.head", "PBS_ENVIRONMENT": "PBS_BATCH"}
# As `qstat -f` of OpenPBS prints it (qstat(1B), "Full format").
QSTAT = """Job Id: 7.head
    Job_Name = worker
    resources_used.walltime = 00:10:00
    job_state = R
    Resource_List.ncpus = 4
    Resource_List.walltime = 02:30:00
    stime = Sat Jan  2 15:30:00 2027
    comment = Job run at Sat Jan 02 at 15:30 on (n1:ncpus=4)
"""


def refuse(words: Sequence[str]) -> str | None:
    raise AssertionError(words)


def test_slurm_says_it_in_a_variable_or_in_squeue() -> None:
    variable = {**IN_SLURM, "SLURM_JOB_END_TIME": "1800000000"}
    assert find_allocation(variable, refuse) == Allocation("Slurm job 12", 1_800_000_000.0)
    asked: list[Sequence[str]] = []

    def squeue(words: Sequence[str]) -> str | None:
        asked.append(words)
        return "2027-01-02T18:00:00\n"

    assert find_allocation(IN_SLURM, squeue) == Allocation("Slurm job 12", AT)
    # The last task of an array has the array's id, by which squeue lists all tasks.
    task = {**IN_SLURM, "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert find_allocation(task, squeue) == Allocation("Slurm job 12_3", AT)
    assert [words[3] for words in asked] == ["12", "12_3"]
    assert find_allocation(IN_SLURM, lambda words: "NONE\n") == Allocation("Slurm job 12", None)
    assert find_allocation(IN_SLURM, lambda words: None) == Allocation("Slurm job 12", None, is_known=False)
    # The shell of salloc on a login node.
    assert find_allocation({"SLURM_JOB_ID": "12"}, refuse) is None and find_allocation({}, refuse) is None


def test_pbs_says_it_by_a_wall_time_or_in_qstat() -> None:
    assert find_allocation(IN_PBS, lambda words: QSTAT) == Allocation("PBS job 7.head", AT)
    assert find_allocation(IN_PBS, lambda words: "") == Allocation("PBS job 7.head", None, is_known=False)
    assert find_allocation({"PBS_JOBID": "7.head"}, refuse) is None
    found = find_allocation({**IN_PBS, "PBS_WALLTIME": "864000"}, refuse)
    assert found is not None and found.ends_at is not None
    assert time.time() < found.ends_at <= time.time() + 864_000
    assert (
        end_in_allocation(Allocation("a", AT), 20.0) == AT - 25.0
        and end_in_allocation(Allocation("a", None), 1) is None
    )


@pytest.mark.parametrize("does", ["exit 1", "echo 2027-01-02T18:00:00", "echo '2027-01-02T18:00:00' >&2"])
def test_the_command_is_asked_once_and_what_it_cannot_say_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    command = tmp_path / "squeue"
    command.write_text(f"#!/bin/sh\n{does}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    is_known = does == "echo 2027-01-02T18:00:00"
    assert find_allocation(IN_SLURM) == Allocation("Slurm job 12", AT if is_known else None, is_known=is_known)
