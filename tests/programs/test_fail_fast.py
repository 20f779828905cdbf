"""`fail_fast`: a batch, or an array, whose rest is cancelled at its first failure, whoever waits for it or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import jobjar
from tests.programs.spaces import SpaceRig
from tests.rig import Rig, wait_until

BATCH = """
batch
name = "{name}"
{said}
run_command = "true"
job
name = "good"
job
name = "slow"
priority = 9
run_command = "touch {here}/slow; exec sleep 60"
job
name = "bad"
priority = 5
retries = 0
run_command = "until test -e {here}/slow; do sleep 0.05; done; exit 3"
job
name = "rest"
seeds = "1-4"
priority = -5
run_command = "touch {here}/rest"
"""


def write_batch(tmp_path: Path, name: str, said: str = "") -> str:
    path = tmp_path / f"{name}.batch"
    path.write_text(BATCH.format(name=name, said=said, here=tmp_path))
    return str(path)


def find(rig: Rig, batch: str, *words: str) -> list[dict[str, Any]]:
    listed = rig.run_forked("jobjar", "list", "--chunks", "--batch", batch, "--format", "json", *words).stdout
    jobs: list[dict[str, Any]] = json.loads(listed)["jobs"]
    return jobs


def outcomes(rig: Rig, batch: str) -> Counter[str]:
    return Counter(str(job["outcome"] or job["state"]) for job in find(rig, batch))


def messages(rig: Rig, batch: str) -> set[str]:
    return {str(rig.show(job["id"])["attempts"][-1]["message"]) for job in find(rig, batch, "--outcome", "cancelled")}


def test_the_first_failure_of_a_batch_cancels_the_rest_though_nobody_waits(rig: Rig, tmp_path: Path) -> None:
    rig.run("submit_batch", "--fail-fast", write_batch(tmp_path, "fast"))
    rig.run("jobjar", "hold", *[job for job in rig.names("unclaimed") if "rest-4" in job])
    workers = [rig.start_worker(JJ_POLL_TIME="0.2") for _ in range(2)]
    wait_until(lambda: not rig.names("unclaimed") and not rig.names("limbo") and not rig.names("claimed"), "its end")
    ended = outcomes(rig, "fast")
    assert (ended["failed"], ended["cancelled"]) == (1, 7 - 1 - ended["succeeded"]) and ended["succeeded"] <= 1, ended
    assert not (tmp_path / "rest").exists()
    [failed] = find(rig, "fast", "--outcome", "failed")
    assert messages(rig, "fast") == {f"fast stops at its first failure: {failed['id']} failed"}
    waited = rig.run("jobjar", "wait", "--batch", "fast", check=False)
    assert waited.returncode == 1 and "1 of 7 failed" in waited.stderr
    for worker in workers:
        rig.stop_worker(worker)
    rig.assert_clean()

    # What is submitted or retried after the failure goes on, with the ledger as it is and with one made anew.
    before = outcomes(rig, "fast")
    rig.run("jobjar", "rebuild")
    rig.run("recover_jobs")
    assert outcomes(rig, "fast") == before
    rig.run("jobjar", "retry", "--batch", "fast", "--name", "*rest*")
    rig.run_until_idle()
    assert outcomes(rig, "fast") == before + Counter(succeeded=4) - Counter(cancelled=4)
    rig.run("jobjar", "rebuild")
    rig.run("recover_jobs")
    assert outcomes(rig, "fast") == before + Counter(succeeded=4) - Counter(cancelled=4)
    rig.assert_clean()


def test_its_block_or_the_library_says_so_and_a_restart_begins_anew(
    rig: Rig, own_library: None, tmp_path: Path
) -> None:
    text = 'batch\nname = "{}"\nfail_fast = {}\nretries = 0\nrun_command = "test $JUG_SEED != 2"\nseeds = "1-5"\n'
    for name, said in (("one", "yes"), ("two", "no"), ("three", "no")):
        (tmp_path / name).write_text(text.format(name, said))
    rig.run("submit_batch", str(tmp_path / "one"), str(tmp_path / "two"))
    [(name, jobs)] = jobjar.submit_batch(tmp_path / "three", fail_fast=True)
    assert (name, jobs) == ("three", 5)
    rig.run_until_idle()
    assert outcomes(rig, "two") == Counter(succeeded=4, failed=1)
    for name in ("one", "three"):
        ended = outcomes(rig, name)  # the next job is staged in beside the one that runs, and may have begun
        assert ended["failed"] == 1 and ended["cancelled"] >= 2 and ended.total() == 5, ended
    [job] = find(rig, "one", "--outcome", "failed")
    rig.run("jobjar", "retry", job["id"])
    rig.run("abort_batch", "--restart", "one")
    ended = outcomes(rig, "one")
    assert ended["unclaimed"] == 5 - ended["succeeded"]
    rig.assert_clean()
    (tmp_path / "bad").write_text("batch\nname = x\nfail_fast = perhaps\njob\nfail_fast = yes\n")
    refused = rig.run("submit_batch", str(tmp_path / "bad"), check=False)
    assert refused.returncode == 2 and "line 3: fail_fast: 'perhaps' is neither yes nor no" in refused.stderr
    assert "line 5: fail_fast belongs to the batch" in refused.stderr


def test_the_first_failed_task_of_an_array_cancels_the_rest(rig: Rig, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    command = f"echo $1 >> {tmp_path}/ran; test $1 != 3 || test -e {mended}"
    words = ("--array", "1-40", "--chunk", "10", "--retries", "1", "--retry-delay", "0", "--fail-fast")
    array = rig.run("jobjar", "submit", *words, command).stdout.strip()
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    waited = rig.run("jobjar", "wait", "--timeout", "60s", array, check=False)
    assert waited.returncode == 1, waited.stderr
    said = rig.show(array)
    assert said["failed"] == 1 and said["not_run"] >= 20, said
    assert all("stops at its first failure: its task 3" in message for message in messages(rig, array))
    mended.touch()
    rig.run("jobjar", "retry", "--failed", array)
    assert rig.run("jobjar", "wait", "--timeout", "60s", array).returncode == 0
    assert rig.show(array)["succeeded"] == 40
    # It may be waited for at once, and exits as it did.
    waited = rig.run("jobjar", "submit", *words[:4], "--fail-fast", "--wait", "test $1 != 3", check=False)
    assert waited.returncode == 1 and "1 of them failed" in waited.stderr, waited.stderr
    assert rig.run("jobjar", "submit", "--array", "1-3", "--wait", "true").returncode == 0
    refused = rig.run("jobjar", "submit", "--fail-fast", "true", check=False)
    assert refused.returncode == 2 and "--fail-fast is for arrays" in refused.stderr
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.root
def test_a_failed_batch_whose_rest_cannot_be_cancelled_says_why(space: SpaceRig, tmp_path: Path) -> None:
    command = f"until test -e {tmp_path}/go; do sleep 0.05; done; false"
    (tmp_path / "fast").write_text(f'batch\nname = fast\nretries = 0\nseeds = 1-6\nrun_command = "{command}"\n')
    space.run("submit_batch", "--fail-fast", str(tmp_path / "fast"))
    first = find(space, "fast", "--sort", "name")[0]["id"]
    dependent = space.run("jobjar", "submit", "--after-any", first, "true").stdout.strip()
    limbo = f"{space.home}/limbo"
    worker, log = space.start_worker(JJ_POLL_TIME="0.2"), tmp_path / "worker1.log"
    wait_until(lambda: space.names("claimed"), "the first job")
    space.mount_read_only(Path(limbo))
    (tmp_path / "go").touch()
    wait_until(lambda: "limbo/ is passed over" in log.read_text(), "the worker's word")
    rest = space.names("unclaimed")
    assert rest, "the worker must claim none of them any more"
    refusal = f"the disk of {limbo} is mounted read-only here; mount that disk writable"

    explained, waits = space.explain(rest[0], dependent)
    cause = explained["causes"][0]
    assert cause["cause"] == "failed_batch" and " stops at its first failure (" in cause["why"]
    assert refusal in f"{cause['why']}; {explained['what_to_do'][0]}"
    assert waits["causes"][0]["cause"] == "dependent" and waits["what_to_do"][0] == refusal.partition("; ")[2]
    for counts in (
        space.status(),
        json.loads(space.run("batch_status", "--format", "json", "fast").stdout)["batches"][0],
    ):
        told = {row["cause"]: row["why"] for row in counts["standing"]}
        assert (
            told["failed_batch"].startswith(f"{len(rest)} jobs") and refusal.partition("; ")[0] in told["failed_batch"]
        )
    assert "dependent" in {row["cause"] for row in space.status()["standing"]}

    space.unmount(Path(limbo))
    wait_until(lambda: not space.names("unclaimed") and not space.names("limbo"), "the rest's end")
    space.stop_worker(worker)
    assert outcomes(space, "fast")["cancelled"] == len(rest)
    space.assert_clean()
