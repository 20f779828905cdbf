"""What is kept for the next job is as new, whatever the job before did to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.described_jobs import describe, said
from tests.rig import Rig


def run_after(rig: Rig, first: str, second: str) -> str:
    """Run two jobs by one worker, one after the other; returns what the second one wrote."""
    worker = rig.start_worker(JJ_PAUSE_TIME="1")
    # On a busy machine its output file has its name before the job finds it at `.next`, and the job fails: no matter.
    rig.run("jobjar", "wait", "--timeout", "60s", rig.submit(first), check=False)
    name = rig.submit(second)
    rig.run("jobjar", "wait", "--timeout", "60s", name, check=True)
    output = rig.run("jobjar", "output", name, check=True).stdout
    said = rig.stop_worker(worker)
    assert worker.returncode == 0 and "Traceback" not in said
    rig.assert_clean()
    return output


@pytest.mark.parametrize(
    "first",
    [
        'rm "$JJ_WORKER_DIR"/output/.next',
        'sleep 0.1; rm "$JJ_WORKER_DIR/output/$JJ_JOB.1.out"',
        'sleep 0.1; mv "$JJ_WORKER_DIR/output/$JJ_JOB.1.out" "$JJ_WORKER_DIR/taken"',
        'ln "$JJ_WORKER_DIR"/output/.next "$JJ_WORKER_DIR/second"',
        'chmod 000 "$JJ_WORKER_DIR"/output/.next',
        'echo text; : > "$JJ_WORKER_DIR"/output/.next',
        'python3 -c "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETFL, 0); os.lseek(1, 100, 0)"',
        "setsid sleep 0.2 & sleep 0.05",
        "echo text",
        "sleep 0.1; echo text",
    ],
)
def test_what_a_job_does_to_its_output_file_harms_no_other(rig: Rig, first: str) -> None:
    assert run_after(rig, first, "echo one; echo two >&2; sleep 0.1; echo three") == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "first",
    [
        "touch file",
        "touch file; rm file",
        "touch .hidden",
        "chmod 000 .",
        'cd ..; rmdir "$JJ_SCRATCH_DIR"',
        'cd ..; mv "$JJ_SCRATCH_DIR" "$JJ_WORKER_DIR/elsewhere"',
        'cd ..; mv "$JJ_SCRATCH_DIR" "$JJ_WORKER_DIR/elsewhere"; mkdir "$JJ_SCRATCH_DIR"',
        'cd ..; rmdir "$JJ_SCRATCH_DIR"; ln -s /usr "$JJ_SCRATCH_DIR"',
        "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done",
    ],
)
def test_what_a_job_does_to_its_scratch_directory_leaves_the_next_one_a_fresh_one(rig: Rig, first: str) -> None:
    told = run_after(rig, first, 'test "$(pwd -P)" = "$(readlink -f "$JJ_SCRATCH_DIR")" && basename "$PWD"; ls -A')
    assert len(told.split()) == 1 and told.split()[0] in rig.names("completed")


def test_jobs_of_one_name_that_run_at_once_have_directories_of_their_own(rig: Rig, tmp_path: Path) -> None:
    """Also where one of them gets the directory that a job before left as new."""
    meet = "touch $1.$JJ_CATEGORY; until [ -e $1.A -a -e $1.B ]; do sleep 0.01; done"
    describe(rig, "before.1", "A", run_command="true")
    # Nothing is in any of them until both have begun.
    command = f"set {tmp_path}/begun; {meet}; touch here.$JJ_CATEGORY; set {tmp_path}/touched; {meet}; ls here.*"
    for category in ("A", "B"):
        describe(rig, "same", category, run_command=command)
    rig.run_until_idle("A", "B", JJ_RUN_SLOTS="2", JJ_STAGED_AHEAD="0", JJ_STAGE_OUT_QUEUE="0")
    written = sorted(path.read_text() for path in rig.home.glob("workers/*/output/same*.out"))
    assert written == ["here.A\n", "here.B\n"]
    rig.assert_clean()


def test_descriptors_do_not_become_more_with_the_jobs(rig: Rig) -> None:
    worker = rig.start_worker(JJ_PAUSE_TIME="1")

    def run_some() -> int:
        for command in ("true", "echo text", "touch file", "sleep 0.05", "rm -r ../*") * 3:
            rig.submit(command)
        rig.run("jobjar", "wait", "--all", "--timeout", "60s", check=False)
        return len(os.listdir(f"/proc/{worker.pid}/fd"))

    run_some()
    before = run_some()
    assert run_some() <= before + 1  # the one that is kept for the next job
    rig.stop_worker(worker)
    assert list(Path(rig.home).glob("workers/*/output/.next")) == []


def test_what_is_kept_of_a_described_job_s_directory_is_as_new_for_the_next_of_either_kind(rig: Rig) -> None:
    """Described jobs find an empty `output/`, plain ones an empty directory, whoever was there before."""
    tricks = (
        "true",
        "touch output/a",
        "rmdir output",
        "chmod 0 output",
        "touch output/a; rm output/a",
        "mkdir output/d",
        "mv output o",
    )
    described = {}
    for number, trick in enumerate(tricks):
        described[f"d{number}.{-2 * number}"] = trick
        describe(rig, f"d{number}.{-2 * number}", run_command=f"ls -A . output; stat -c %A output; {trick}")
        rig.drop(f"p{number}.{-2 * number - 1}", "#!/bin/sh\nls -A\n")
    rig.run_until_idle()
    for name in described:
        assert said(rig, name) == ".:\noutput\n\noutput:\ndrwx------\n", name
    for number in range(len(tricks)):
        assert said(rig, f"p{number}.{-2 * number - 1}") == ""
    assert not list(rig.home.glob("workers/*/scratch/*"))
    rig.assert_clean()
