"""Whatever sends a job back, `jobjar show`, `batch_status` and `system_status` name the cause and what to do."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.described_jobs import describe, script
from tests.programs.spaces import SpaceRig
from tests.rig import Rig, wait_until


def batch(rig: Rig, name: str = "b") -> dict[str, Any]:
    described: dict[str, Any] = json.loads(rig.run("batch_status", "--format", "json", name).stdout)
    [one] = described["batches"]
    return dict(one)


def causes(rig: Rig) -> list[tuple[int, str, str]]:
    return [(group["jobs"], group["outcome"], group["cause"]) for group in rig.status()["returned"]]


def assert_told(rig: Rig, job: str, jobs: int, outcome: str, *words: str) -> None:
    """All three name the cause, of so many jobs; and so do a ledger that is made anew, and another node's."""
    for home in ("", "", str(rig.home.parent / "another-home")):
        rig.environment["JJ_LEDGER_HOME"] = home
        [(count, how, cause)] = causes(rig)
        assert (count, how) == (jobs, outcome)
        for word in words:
            assert word in cause
        # They may differ in numbers, as names of files do.
        wanted = re.sub("[0-9]+", "#", cause)
        why = [re.sub("[0-9]+", "#", line) for line in rig.show(job)["waits_because"]]
        assert any(wanted in line for line in why), why
        assert [(group["jobs"], group["cause"]) for group in batch(rig)["returned"]] == [(jobs, cause)]
        shown = " ".join(cause.split())
        assert shown in rig.run("system_status").stdout
        assert shown in rig.run("batch_status", "b").stdout and shown in rig.run("batch_status").stdout
        rig.run("jobjar", "rebuild")
    rig.environment["JJ_LEDGER_HOME"] = ""


def store(rig: Rig, count: int) -> list[str]:
    """Jobs of batch b that have something to store."""
    command = "mkdir -p output && head -c 100000 /dev/zero > output/$JJ_JOB"
    return [describe(rig, f"job{number}", batch="b", run_command=command) for number in range(1, count + 1)]


def all_went_back(rig: Rig, jobs: list[str]) -> Callable[[], bool]:
    def look() -> bool:
        return all(rig.show(job)["not_before"] and rig.show(job)["state"] == "unclaimed" for job in jobs)

    return look


def test_a_storage_path_that_is_missing_is_named_with_what_to_do(rig: Rig, tmp_path: Path) -> None:
    jobs = store(rig, 3)
    worker = rig.start_worker(JJ_STORAGE_PATH=str(tmp_path / "away"))
    wait_until(all_went_back(rig, jobs), "all to come back")
    rig.stop_worker(worker)
    [one] = rig.explain(jobs[0])
    assert "storage" in [standing["cause"] for standing in one["causes"]] and f"{tmp_path}/away" in one["sentence"]
    assert any(what.startswith("make it, or mount the disk") for what in one["what_to_do"])
    assert ("storage", 3) in [(row["cause"], row["jobs"]) for row in rig.status()["standing"]]
    remedy = "make it, or mount the disk that it lies on, or name another storage path (JJ_STORAGE_PATH)"
    assert_told(rig, jobs[0], 3, "interrupted", f"store: {tmp_path}/away: No such file or directory; {remedy}")
    rig.assert_clean()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_storage_path_that_refuses_is_named_with_what_to_do(space: SpaceRig, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "storage"
    place.mkdir()
    space.mount_small_disk(place)
    if kind == "full":
        space.fill(place)
    else:
        space.root_shell(f"mount -o remount,ro '{place}'")
    jobs = store(space, 2)
    worker = space.start_worker(JJ_STORAGE_PATH=str(place))
    wait_until(all_went_back(space, jobs), "all to come back")
    space.stop_worker(worker)  # not by SIGTERM, which would be the cause where a job is just tried again
    told = ("No space left on device", "free space on that disk")
    if kind == "read-only":
        told = ("Read-only file system", "mount that disk writable")
    assert_told(space, jobs[0], 2, "interrupted", f"store: {place}", *told)


def test_a_storage_path_that_is_forbidden_is_named_with_who_needs_the_right(rig: Rig, tmp_path: Path) -> None:
    place = tmp_path / "storage"
    place.write_text("no directory\n")
    jobs = store(rig, 1)
    worker = rig.start_worker(JJ_STORAGE_PATH=str(place))
    wait_until(all_went_back(rig, jobs), "it to come back")
    rig.stop_worker(worker)
    assert_told(rig, jobs[0], 1, "interrupted", f"store: {place}: Not a directory", "move that away")


def test_a_storage_package_that_fails_is_named(rig: Rig, tmp_path: Path) -> None:
    jobs = store(rig, 1)
    worker = rig.start_worker(JJ_STORAGE_SOFTWARE=str(tmp_path / "none.tgz"))
    wait_until(all_went_back(rig, jobs), "it to come back")
    rig.stop_worker(worker)
    assert_told(rig, jobs[0], 1, "interrupted", f"store: {tmp_path}/none.tgz cannot be fetched: No such", "make it")


def test_an_input_that_is_missing_and_a_package_that_cannot_be_installed_are_named(rig: Rig, tmp_path: Path) -> None:
    job = describe(rig, "job", batch="b", run_command="true", input_files=str(tmp_path / "in-7"), retry_delay="1h")
    rig.stop_worker(worked(rig, job))
    assert_told(
        rig, job, 1, "failed", f"stage_in: {tmp_path}/in-7 cannot be fetched: No such file or directory; make it"
    )
    (rig.home / "unclaimed" / job).unlink()
    package = tmp_path / "p"
    (package / "package").mkdir(parents=True)
    install = package / "package" / "install"
    install.write_text("#!/bin/sh\necho no compiler here >&2\nexit 4\n")
    install.chmod(0o755)
    rig.shell(f"tar -czf {tmp_path}/p.tgz -C {package} .")
    other = describe(rig, "other", batch="b", run_command="true", software=f"{tmp_path}/p.tgz", retry_delay="1h")
    rig.stop_worker(worked(rig, other))
    assert_told(rig, other, 1, "failed", "stage_in: ", "p.tgz", "no compiler here")


def worked(rig: Rig, job: str) -> Any:
    worker = rig.start_worker()
    wait_until(all_went_back(rig, [job]), "the job to come back")
    return worker


def test_a_file_that_is_open_for_writing_is_named(rig: Rig) -> None:
    job = rig.drop("busy", "#!/bin/sh\n#JJ batch = b\n#JJ run_command = true\n").name
    plain = rig.drop("plain", "#!/bin/sh\ntrue\n").name
    rig.run_until_idle()
    assert (rig.show(job)["outcome"], rig.show(plain)["outcome"]) == ("succeeded", "succeeded")
    again = rig.drop("again", "#!/bin/sh\ntrue\n")
    with open(again, "ab"):
        worker = rig.start_worker()
        # It goes round every five seconds: it may be claimed at the moment of a look.
        [(jobs, outcome, cause)] = wait_until(lambda: causes(rig), "the return")
        assert (jobs, outcome) == (1, "interrupted")
        assert "open for writing" in cause and "`fuser` names the process" in cause
        wait_until(lambda: any(cause in line for line in rig.show("again")["waits_because"] or []), "the cause in show")
    rig.run("jobjar", "wait", "--timeout", "60s", "again")
    rig.stop_worker(worker)
    assert causes(rig) == []


def test_a_worker_that_was_told_to_end_or_died_is_named(rig: Rig) -> None:
    job = describe(rig, "job", batch="b", run_command="sleep 60")
    worker = rig.start_worker()
    wait_until(lambda: batch(rig)["phases"].get("run"), "the run")
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
    assert_told(rig, job, 1, "interrupted", "its worker was told to end")
    worker = rig.start_worker()
    wait_until(lambda: batch(rig)["phases"].get("run"), "the run")
    worker.kill()
    worker.wait(30)
    rig.run("recover_jobs")
    name = f"{os.uname().nodename}.{worker.pid}"
    assert_told(rig, job, 1, "stranded", f"its worker {name} died; stranded for the 1st time")


def test_a_command_that_fails_is_named_with_where_to_look(rig: Rig) -> None:
    job = rig.submit("--retries", "3", "--retry-delay", "1h", "exit 7")
    rig.stop_worker(worked(rig, job))
    assert causes(rig) == [(1, "failed", "exit status 7 (`jobjar output` shows what it wrote)")]
    assert "its attempt 1 failed: exit status 7 (`jobjar output` shows what it wrote)" in rig.show(job)["waits_because"]
    (rig.home / "unclaimed" / job).unlink()
    commands = {"run_command": "kill -USR2 $$", "retry_delay": "1h"}
    killed = describe(rig, "killed", batch="b", **commands)
    refused = describe(rig, "refused", batch="b", stage_in_command="exit 5", **commands)
    worker = rig.start_worker()
    wait_until(all_went_back(rig, [killed, refused]), "both to come back")
    rig.stop_worker(worker)
    told = {cause for _, _, cause in causes(rig)}
    look = "(`jobjar output` shows what it wrote)"
    assert told == {f"run: signal {signal.SIGUSR2.value} {look}", f"stage_in: exit status 5 {look}"}
    assert f"its attempt 1 failed: stage_in: exit status 5 {look}" in rig.show(refused)["waits_because"]


@pytest.mark.root
def test_a_jar_whose_disk_is_full_is_named_though_nothing_can_be_journaled(small: SpaceRig) -> None:
    job = small.submit("true")
    filler = small.fill(small.home)
    told = f"the disk of {small.home} is full; free space on that disk"
    assert any(told in line for line in small.status()["warnings"])
    assert any(told in line for line in small.show(job)["waits_because"])
    [one] = small.explain(job)
    assert [standing["cause"] for standing in one["causes"]] == ["no_worker", "disk"]
    filler.unlink()
    assert not any(told in line for line in small.show(job)["waits_because"])
    worker = small.start_worker()
    small.run("jobjar", "wait", "--timeout", "60s", job)
    small.stop_worker(worker)


@pytest.mark.root
def test_a_job_that_was_given_back_before_it_ran_says_what_was_refused(rig: Rig) -> None:
    """A directory that nobody, not even root, may write to."""
    job = rig.submit("true")
    rig.submit("true")
    worker = rig.start_worker()
    rig.run("jobjar", "wait", "--all", "--timeout", "60s")
    output = rig.home / "workers" / f"{os.uname().nodename}.{worker.pid}" / "output"
    rig.shell(f"rm -rf {output} && touch {output}")
    job = rig.submit("echo written; sleep 0.1")
    wait_until(lambda: rig.show(job)["attempts"], "the try")
    wait_until(lambda: rig.show(job)["state"] == "unclaimed", "the return")
    rig.stop_worker(worker)  # not by SIGTERM, which would be the cause where the job is just tried again
    [(jobs, outcome, cause)] = causes(rig)
    assert (jobs, outcome) == (1, "interrupted")
    assert "given back before it ran: cannot make a scratch directory or output file in" in cause
    assert "Not a directory" in cause


def test_causes_that_differ_in_numbers_alone_are_one_and_held_jobs_are_told_too(rig: Rig, tmp_path: Path) -> None:
    for number in range(3):
        command = {"run_command": "true", "input_files": f"{tmp_path}/in-{number}.txt"}
        describe(rig, f"job{number}", batch="b", seed=number, retry_delay="1h", **command)
    worker = rig.start_worker()
    wait_until(all_went_back(rig, ["job0", "job1", "job2"]), "all to come back")
    [group] = batch(rig)["returned"]
    assert group["jobs"] == 3 and f"stage_in: {tmp_path}/in-" in group["cause"]
    # One is written anew by hand, wrongly: another job of that name, which its worker holds.
    held = describe(rig, "held", batch="b", run_command="true", polling_time="1")
    wait_until(lambda: rig.show(held)["state"] == "completed", "a job that is right")
    rig.submit("true")
    (rig.home / "completed" / held).rename(rig.home / "limbo" / held)
    (rig.home / "limbo" / held).write_text(script(batch="b", run_command="true", colour="red"))
    (rig.home / "limbo" / held).rename(rig.home / "unclaimed" / held)
    wait_until((rig.home / "limbo" / held).exists, "the hold")
    rig.stop_worker(worker)
    found = {group["outcome"]: (group["jobs"], group["cause"]) for group in batch(rig)["returned"]}
    assert found["failed"][0] == 3
    assert "'colour'" in rig.run("system_status").stdout
