"""jobjar retry and remove, by the real programs: jobs that have ended run again as the same jobs, or are removed."""

from __future__ import annotations

import json
from pathlib import Path

from jobjar.host import login
from tests.programs.test_steering import steer, submit
from tests.rig import Rig, wait_until


def test_ended_jobs_run_again_as_the_same_jobs_with_their_history(rig: Rig, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    text = f"[ -e {mended} ] || exit 3"
    failed = submit(rig, "failed", "-c", "RUN", "--retries", "1", "--retry-delay", "0", command=text)
    fine = submit(rig, "fine", "-c", "RUN")
    rig.drop("by-hand", f"#!/bin/sh\n{text}\n", "RUN")
    cancelled = submit(rig, "cancelled", "-c", "RUN")
    steer(rig, "cancel", cancelled)
    rig.run_until_idle("RUN")
    by_hand = rig.show("by-hand")["id"]
    assert steer(rig, "retry", "--failed", "--dry-run").stdout == "would retry 2 ended jobs\n"
    assert steer(rig, "retry", "--failed").stdout == "retried 2 ended jobs\n"
    assert {job: rig.show(job)["state"] for job in (failed, by_hand, fine, cancelled)} == {
        failed: "unclaimed",
        by_hand: "unclaimed",
        fine: "completed",
        cancelled: "completed",
    }
    rig.assert_clean()
    # It is a job that waits: it may be held, and a rebuilt ledger says so.
    steer(rig, "hold", failed, by_hand)
    rig.run("jobjar", "rebuild")
    assert {rig.show(job)["held_reason"] for job in (failed, by_hand)} == {f"held by {login()}"}
    steer(rig, "release", failed, by_hand)
    rig.run_until_idle("RUN")
    # All its retries are there again.
    shown = rig.show(failed)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed"] * 4
    assert steer(rig, "retry", failed, "by-hand", cancelled).stdout == "retried 3 ended jobs\n"
    mended.touch()
    rig.run_until_idle("RUN")
    for job, attempts in ((failed, 5), (by_hand, 3), (cancelled, 2)):
        shown = rig.show(job)
        assert (shown["outcome"], len(shown["attempts"])) == ("succeeded", attempts)
    reasons = [move["reason"] for move in rig.show(failed)["moves"]]
    assert [reason for reason in reasons if reason not in ("claimed", "retried")] == [
        *("submitted", "completed", "again", "held", "released", "completed", "again", "completed")
    ]
    assert [move["number"] for move in rig.show(failed)["moves"]] == list(range(1, len(reasons) + 1))
    assert "no job fits" in steer(rig, "retry", "--failed", fails=True).stderr
    rig.assert_clean()
    before = rig.show(failed)
    rig.run("jobjar", "rebuild")
    assert rig.show(failed) == before


def test_a_retried_job_that_waits_for_its_delay_waits_in_a_rebuilt_ledger_too(rig: Rig) -> None:
    job = submit(rig, "it", "--retries", "1", "--retry-delay", "1h", command="exit 1")
    rig.run("jobjar", "cancel", job)
    steer(rig, "retry", job)
    worker = rig.start_worker()
    due = wait_until(lambda: rig.show(job)["not_before"], "the failure")
    rig.stop_worker(worker)
    assert rig.show(job)["not_before"] == due and rig.show(job)["attempts"][-1]["outcome"] == "failed"
    rig.run("jobjar", "rebuild")
    assert rig.show(job)["not_before"] == due
    rig.assert_clean()


def test_ended_jobs_are_removed_and_their_history_stays(rig: Rig) -> None:
    jobs = [submit(rig, word, command="echo said") for word in ("a", "b")]
    rig.drop("by-hand", "#!/bin/sh\n")
    rig.run_until_idle()
    waits = submit(rig, "waits")
    result = steer(rig, "remove", jobs[0], waits, "by-hand", fails=True)
    assert result.stdout == "removed 2 ended jobs\n"
    assert result.stderr == f"jobjar remove: {waits} was not removed: it waits, and is not held\n"
    assert len(rig.names("completed")) == 1
    shown = rig.show(jobs[0])
    assert (shown["state"], shown["moves"][-1]["reason"], shown["moves"][-1]["by"]) == ("removed", "removed", login())
    assert rig.run("jobjar", "output", jobs[0]).stdout == "said\n"
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert rig.show(jobs[0])["moves"] == shown["moves"]
    assert rig.show(jobs[0])["state"] == "removed"
    assert [job["id"] for job in json.loads(rig.run("jobjar", "list", "--format", "json").stdout)["jobs"]] == [
        waits,
        jobs[1],
    ]
    result = steer(rig, "retry", jobs[0], fails=True)
    assert result.stderr == f"jobjar retry: {jobs[0]} was not retried: its file was removed\n"
    rig.run("recover_jobs")
    rig.assert_clean()


def test_jobs_of_batches_are_steered_as_far_as_their_batch_goes_on(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "wc.batch"
    file.write_text('batch\nname = "wc"\nseeds = "1-3"\nrun_command = "true"\n')
    rig.run("submit_batch", str(file))
    first, second, third = (
        job["id"] for job in json.loads(rig.run("jobjar", "list", "--format", "json").stdout)["jobs"]
    )
    steer(rig, "hold", second)
    steer(rig, "cancel", first)
    assert rig.show(first)["outcome"] == "cancelled"
    rig.run("abort_batch", "wc")
    for verb, job in (("release", second), ("retry", first), ("retry", third)):
        assert "its batch wc is aborted" in steer(rig, verb, job, fails=True).stderr
    rig.run("abort_batch", "--restart", "wc")
    assert "has submitted it again" in steer(rig, "retry", first, fails=True).stderr
    steer(rig, "release", second)
    rig.run_until_idle()
    assert rig.show(second)["outcome"] == "succeeded"
    assert steer(rig, "retry", second).stdout == "retried 1 ended job\n"
    rig.run_until_idle()
    assert [attempt["outcome"] for attempt in rig.show(second)["attempts"]] == ["succeeded"] * 2
    rig.assert_clean()
