"""Arrays by their names and by `--array`, in every verb that takes jobs; and filters that mean tasks of arrays."""

from __future__ import annotations

import json
from typing import Any

import pytest

import jobjar
from jobjar.errors import AmbiguousJob, UnknownJob, UsageError
from tests.rig import Rig


def steer(rig: Rig, *words: str, check: bool = True) -> dict[str, Any]:
    done: dict[str, Any] = json.loads(rig.run_forked("jobjar", *words, "--format", "json", check=check).stdout)
    return done


def test_an_array_is_named_by_its_name_in_every_verb_and_its_failed_tasks_by_filters(
    rig: Rig, own_library: None
) -> None:
    words = ("--chunk", "5", "--retries", "0")
    ended = rig.run("jobjar", "submit", "--array", "1-10", "--name", "train", *words, "test $1 != 3").stdout.strip()
    rig.run("jobjar", "submit", "--name", "alone", "--retries", "0", "false")
    rig.run_until_idle()
    waits = rig.run("jobjar", "submit", "--array", "1-4", "--name", "later", *words, "true").stdout.strip()

    # Each verb that looks, and each that steers, takes the name, and `--array`.
    for which in (("train",), ("--array", "train"), ("--array", ended[:6])):
        listed = rig.run_forked("jobjar", "list", "--format", "json", *which)
        assert [array["id"] for array in json.loads(listed.stdout)["arrays"]] == [ended]
        assert json.loads(rig.run_forked("jobjar", "stats", "--format", "json", *which).stdout)
        [one] = rig.explain(*which)
        assert one["id"] == ended
        assert steer(rig, "retry", "--failed", "--dry-run", *which)["tasks"][0]["ended"] == 1
    assert rig.show("train")["id"] == ended and rig.show("train[3]")["outcome"] == "failed"
    assert ended in rig.run("jobjar", "top", "--once", "--array", "train").stdout
    assert rig.run("jobjar", "wait", "train", check=False).returncode == 1
    assert len(rig.run("jobjar", "history", "train").stdout.splitlines()) > 3
    for verb in ("cancel", "hold", "priority 3", "move B"):
        word, *value = verb.split()
        assert {job["array"] for job in steer(rig, word, "--dry-run", "later", *value)["jobs"]} == {waits}
    assert {job["array"] for job in steer(rig, "hold", "--array", "later", "--state", "waiting")["jobs"]} == {waits}
    assert {job["array"] for job in steer(rig, "release", "--array", "later")["jobs"]} == {waits}
    assert steer(rig, "remove", "--dry-run", "--array", "train")["jobs"]
    assert (
        [job.batch for job in jobjar.list_jobs("train")]
        == [ended] * 2
        == [job.batch for job in jobjar.list_jobs(array="train")]
    )
    assert jobjar.job("later").batch == waits and jobjar.stats(array="train")

    # `--all --failed`, and filters that fit the array, mean its failed tasks and not its chunks.
    for filters, jobs, tasks in (
        (("--all", "--failed"), 1, 1),
        (("--outcome", "failed"), 1, 1),
        (("--exit-status", "1"), 1, 1),
        (("--exit-status", "9"), 0, 0),
        (("--failed", "--batch", ended), 0, 1),
        (("--failed", "--name", "alone"), 1, 0),
        (("--outcome", "killed"), 0, 0),
        (("--all", "--failed", "--submitter", "nobody"), 0, 0),
    ):
        done = rig.run_forked("jobjar", "retry", "--dry-run", "--format", "json", *filters, check=False)
        assert (done.returncode == 0) == bool(jobs or tasks), done.stderr
        if jobs or tasks:
            said = json.loads(done.stdout)
            assert (len(said["jobs"]), sum(one["ended"] for one in said["tasks"])) == (jobs, tasks), (filters, said)
    retried = jobjar.retry(all=True, failed=True)
    assert len(retried.jobs) == 1 and retried.tasks[0].ended == 1
    rig.run("jobjar", "cancel", "--array", "later")
    rig.run_until_idle()
    assert rig.show(ended)["failed"] == 1 and rig.show(f"{ended}[3]")["outcome"] == "failed"

    # What is wrong is said.
    with pytest.raises(UnknownJob, match=r"alone: .*--array takes an array"):
        jobjar.list_jobs(array="alone")
    with pytest.raises(UsageError, match="leave out"):
        jobjar.list_jobs("alone", array="train")
    rig.run("jobjar", "submit", "--name", "train", "--hold", "true")
    with pytest.raises(AmbiguousJob):
        jobjar.list_jobs("train")
    assert len(jobjar.list_jobs(array="train")) >= 2
    rig.assert_clean()
