"""Jobs that remove, move or replace their own file while they run: they end as they exited, and a note says what they did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from jobjar.liveness import process_start
from tests.described_jobs import describe, entries
from tests.rig import PATIENCE_S, Rig, wait_until

GONE = "its file was removed, or moved out of the jar, while it ran"
PUT_BACK = f"{GONE}; the file was put back, for the job is to run again"


def assert_ended(rig: Rig, name: str, outcome: str, status: int | None, notes: list[list[str]]) -> None:
    """It completed so, and its attempts have these notes; the same after a rebuild."""
    for _ in range(2):
        shown = rig.show(name)
        assert (shown["state"], shown["outcome"], shown["exit_status"]) == ("completed", outcome, status)
        assert [attempt.get("warnings", []) for attempt in shown["attempts"]] == notes
        assert not any("lease" in (attempt["message"] or "") for attempt in shown["attempts"])
        rig.assert_clean()
        rig.run("jobjar", "rebuild")
    assert rig.names("completed") == [name]
    assert not any(entry["outcome"] == "lost" for entry in entries(rig, "ended", name))


@pytest.mark.parametrize(
    "act",
    ['rm -- "$0"', 'mv -- "$0" {away}/moved', 'ln -- "$0" {away}/link; rm -- "$0"', 'rm -r "$JJ_WORKER_DIR/jobs"'],
    ids=["removes", "moves", "links and removes", "removes with its directory"],
)
@pytest.mark.parametrize("wait", ["", "sleep 0.1; "], ids=["at once", "later"])
@pytest.mark.parametrize(("status", "outcome"), [(0, "succeeded"), (5, "failed")])
def test_a_job_that_takes_its_file_away_ends_as_it_exited(
    rig: Rig, tmp_path: Path, act: str, wait: str, status: int, outcome: str
) -> None:
    if "-r" in act and wait:
        pytest.skip("once is enough")
    name = rig.submit(f"{wait}{act.format(away=tmp_path)}; exit {status}")
    log = rig.run_until_idle()
    assert_ended(rig, name, outcome, status, [[GONE]])
    assert "lease" not in log and GONE in log
    assert not os.access(rig.home / "completed" / name, os.X_OK)
    assert name in (rig.home / "completed" / name).read_text()


def test_a_job_whose_program_is_rm_ends_as_that_exited(rig: Rig) -> None:
    rig.drop("bin_rm", "#!/bin/rm\n")
    rig.run_until_idle()
    assert_ended(rig, "bin_rm", "succeeded", 0, [[GONE]])


def test_a_job_that_removes_its_file_is_run_again_as_often_as_it_may(rig: Rig, tmp_path: Path) -> None:
    text = f'rm -- "$0"; echo $JJ_ATTEMPT >>{tmp_path}/runs; test $JJ_ATTEMPT = 3 || exit 7'
    name = rig.submit("--retries", "5", text)
    rig.run_until_idle()
    assert (tmp_path / "runs").read_text() == "1\n2\n3\n"
    assert_ended(rig, name, "succeeded", 0, [[PUT_BACK], [PUT_BACK], [GONE]])


def test_its_file_is_put_back_as_it_was(rig: Rig, tmp_path: Path) -> None:
    job = (
        f'#!/bin/sh\n#JJ retries = 1\ncp -p "$0" {tmp_path}/copy$JJ_ATTEMPT; rm "$0"; exit 1\n' + "#" * 3_000_000 + "\n"
    )
    rig.drop("large", job, mode=0o750)
    rig.run_until_idle()
    assert_ended(rig, "large", "failed", 1, [[PUT_BACK], [GONE]])
    copy = tmp_path / "copy2"
    assert copy.read_text() == job and copy.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "act",
    ['sed -i s/no/yes/ "$0"', 'cp "$0" new; mv new "$0"'],
    ids=["edits", "moves over"],
)
def test_a_job_that_replaces_its_file_ends_as_it_exited(rig: Rig, act: str) -> None:
    name = rig.submit(f"{act}; exit 5")
    rig.run_until_idle()
    assert_ended(rig, name, "failed", 5, [["its file was replaced while it ran"]])


def test_a_time_limit_and_a_kill_end_it_as_they_end_any_job(rig: Rig, tmp_path: Path) -> None:
    limited = rig.submit("--time-limit", "2", 'rm -- "$0"; exec sleep 600')
    rig.run_until_idle()
    assert_ended(rig, limited, "timed_out", None, [[GONE]])
    shutil.rmtree(rig.home / "completed")
    (rig.home / "completed").mkdir()
    killed = rig.submit(f'rm -- "$0"; touch {tmp_path}/started; exec sleep 600')
    worker = rig.start_worker()
    wait_until((tmp_path / "started").exists, "the job's start")
    wait_until(lambda: rig.show(killed)["attempts"], "its row")
    (rig.home / "workers" / f"{os.uname().nodename}.{worker.pid}" / f"KILL.{killed}").touch()
    wait_until(lambda: rig.show(killed)["state"] == "completed", "its end")
    assert rig.show(killed)["outcome"] == "killed"
    rig.stop_worker(worker)


def test_a_worker_that_is_told_to_end_gives_such_a_job_back(rig: Rig, tmp_path: Path) -> None:
    # A worker takes hold of the file of a job that is not over at once.
    is_held = 'ls -l /proc/$PPID/fd | grep -q "$JJ_JOB_FILE"'
    text = f'test $JJ_ATTEMPT = 1 || exit 0; until {is_held}; do sleep 0.02; done; rm -- "$0"; '
    text += f"touch {tmp_path}/started; exec sleep 600"
    name = rig.submit(text)
    worker = rig.start_worker()
    wait_until((tmp_path / "started").exists, "the job's start")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert rig.names("unclaimed") == [name]
    rig.run_until_idle()
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["interrupted", "succeeded"]


def test_one_that_cannot_be_put_back_is_over_and_says_so(rig: Rig, tmp_path: Path) -> None:
    name = rig.submit(f'rm -- "$0"; touch {tmp_path}/started; exec sleep 600')
    worker = rig.start_worker()
    wait_until((tmp_path / "started").exists, "the job's start")
    opened = []
    for path in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            opened.append(os.readlink(path))
    held = any(path.endswith(f"/jobs/{name} (deleted)") for path in opened)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    shown = rig.show(name)
    if held:  # the worker was quicker than the job
        assert shown["state"] == "unclaimed"
    else:
        assert (shown["state"], shown["outcome"], shown["signal"]) == ("completed", "failed", signal.SIGTERM)
        assert "cannot run again" in shown["attempts"][0]["message"]
    rig.assert_clean()


def test_a_described_job_that_takes_its_file_away_ends_as_it_exited_and_is_tried_again(
    rig: Rig, tmp_path: Path
) -> None:
    command = f'rm -- "$JJ_JOB_FILE"; echo x >>{tmp_path}/runs; test $(wc -l <{tmp_path}/runs) = 3'
    name = describe(rig, "own", run_command=command, retries="4")
    rig.run_until_idle()
    assert_ended(rig, name, "succeeded", 0, [[PUT_BACK], [PUT_BACK], [GONE]])
    assert rig.names("underway") == []


def test_the_batch_of_such_jobs_is_counted_whole(rig: Rig) -> None:
    names = [
        describe(rig, f"one{number}", batch="own", retries="0", run_command=f'rm "$JJ_JOB_FILE"; exit {number}')
        for number in range(2)
    ]
    rig.run_until_idle()
    assert [rig.show(name)["outcome"] for name in names] == ["succeeded", "failed"]
    rig.assert_clean()
    [status] = json.loads(rig.run("batch_status", "own", "--format", "json").stdout)["batches"]
    assert (status["done"], status["phases"]["succeeded"], status["phases"]["failed"]) == (2, 1, 1)


@pytest.mark.parametrize("status", [0, 4])
def test_a_job_that_moves_itself_to_unclaimed_runs_again_and_no_lease_is_told_of(rig: Rig, status: int) -> None:
    text = f'test $JJ_ATTEMPT = 1 || exit 0; mv -- "$0" "$JJ_HOME/unclaimed/$JJ_JOB"; exit {status}'
    name = rig.submit(text)
    log = rig.run_until_idle()
    wait_until(lambda: rig.show(name)["state"] == "completed", "its second run")
    shown = rig.show(name)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed" if status else "succeeded", "succeeded"]
    assert shown["attempts"][0]["warnings"] == [f"its file was moved by hand while it ran, to unclaimed/{name}"]
    assert "lease" not in log
    rig.assert_clean()


def test_so_does_one_that_another_worker_has_begun_again(rig: Rig, tmp_path: Path) -> None:
    wait = f"touch {tmp_path}/began$JJ_ATTEMPT; until test -e {tmp_path}/began2; do sleep 0.02; done"
    name = rig.submit(f'{wait.split(";")[0]}; test $JJ_ATTEMPT = 1 || exit 0; mv -- "$0" "$JJ_HOME/unclaimed/"; {wait}')
    first, second = rig.start_worker(), rig.start_worker()
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    wait_until(lambda: all(a["ended_at"] for a in rig.show(name)["attempts"]), "the end of both")
    shown = rig.show(name)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded", "succeeded"]
    said = rig.stop_worker(first) + rig.stop_worker(second)
    assert "lease" not in said
    assert rig.names("completed") == [name]
    rig.assert_clean()


def test_a_job_that_moves_itself_to_completed_is_completed(rig: Rig) -> None:
    name = rig.submit('mv -- "$0" "$JJ_HOME/completed/"')
    rig.run_until_idle()
    assert_ended(rig, name, "succeeded", 0, [["its file was moved to completed/ by hand while it ran"]])


def test_a_job_that_takes_another_name_in_the_jar_leaves_a_note_under_its_own(rig: Rig) -> None:
    name = rig.submit('mv -- "$0" "$JJ_HOME/limbo/other.5"')
    rig.run_until_idle()
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"]) == ("completed", "succeeded")
    assert rig.names("limbo") == ["other.5"] and rig.names("completed") == [name]
    rig.run("recover_jobs")
    rig.assert_clean()


def test_with_leases_such_a_job_runs_to_its_end(rig: Rig) -> None:
    name = rig.submit('rm -- "$0"; sleep 1; echo done')
    log = rig.run_until_idle(JJ_LEASE_TIME="20", JJ_POLL_TIME="0.1")
    assert_ended(rig, name, "succeeded", 0, [[GONE]])
    assert rig.run("jobjar", "output", name).stdout == "done\n"
    assert "lease" not in log


@pytest.mark.parametrize("instead", ["mkdir $JJ_JOB_FILE", "ln -s /etc/passwd $JJ_JOB_FILE", "mkfifo $JJ_JOB_FILE"])
def test_what_a_job_puts_in_the_place_of_its_file_is_not_taken_for_it_when_it_is_run_again(
    rig: Rig, instead: str
) -> None:
    name = rig.submit("--retries", "1", f"rm $JJ_JOB_FILE; {instead}; exit 5")
    rig.run_until_idle()
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"]) == ("completed", "failed")
    assert [attempt["exit_status"] for attempt in shown["attempts"]] == [5, 5]
    assert rig.names("unclaimed") == []
    rig.assert_clean()


@pytest.mark.parametrize("how", ["retried", "stranded", "told to end"])
@pytest.mark.parametrize("mode", ["-x", "000"])
def test_a_job_that_takes_its_own_run_bit_away_is_run_again(rig: Rig, tmp_path: Path, mode: str, how: str) -> None:
    end = "exit 7" if how == "retried" else f"touch {tmp_path}/began; exec sleep 600"
    name = rig.submit("--retries", "1", f'test $JJ_ATTEMPT = 2 && exit; chmod {mode} "$0"; {end}')
    worker = rig.start_worker()
    if how != "retried":
        wait_until((tmp_path / "began").exists, "the job's start")
        worker.send_signal(signal.SIGKILL if how == "stranded" else signal.SIGTERM)
        worker.wait(PATIENCE_S)
        rig.run("recover_jobs")
        worker = rig.start_worker()
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    rig.stop_worker(worker)
    told = [] if how == "stranded" else ["its file lost its run bit while it ran, and got it again"]
    assert_ended(rig, name, "succeeded", 0, [told, []])


def test_a_waiting_job_without_its_run_bit_says_so(rig: Rig) -> None:
    name = rig.submit("true")
    path = rig.home / "unclaimed" / name
    path.chmod(0o644)
    told = f"its file has no run bit, so it is no job; `chmod +x {path}`"
    assert rig.show(name)["waits_because"] == [told]
    assert told in rig.run("jobjar", "show", name).stdout
    worker = rig.start_worker()
    wait_until(lambda: rig.show(name)["state"] == "removed", "a worker's look")
    assert rig.show(name)["waits_because"] == [told]
    path.chmod(0o755)
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_job_without_its_file_does_not_outlive_its_worker(rig: Rig, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    rig.submit(f"rm $JJ_JOB_FILE; echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")
    worker = rig.start_worker()
    wait_until(pid.exists, "the job's start")
    worker.kill()
    worker.wait()
    # A session, or a process where the worker was killed before it had recorded the job's process id.
    assert "ended the orphaned" in rig.run("recover_jobs").stdout
    assert process_start(int(pid.read_text())) is None


@pytest.mark.parametrize("is_looked_at", [False, True], ids=["", "after a look"])
def test_a_job_without_its_file_is_over_with_its_dead_worker_and_its_batch_too(
    rig: Rig, tmp_path: Path, is_looked_at: bool
) -> None:
    submit_file = tmp_path / "own.jug"
    command = f"rm $JJ_JOB_FILE; touch {tmp_path}/began; exec sleep 600"
    submit_file.write_text(f'batch {{\n  name = own\n  retries = 3\n  run_command = "{command}"\n}}\n')
    rig.run("submit_batch", str(submit_file))
    [name] = rig.names("unclaimed")
    worker = rig.start_worker()
    wait_until((tmp_path / "began").exists, "the job's start")
    if is_looked_at:
        rig.status()
        shown = rig.show(name)
        assert (shown["state"], shown["worker"]) == ("claimed", f"{os.uname().nodename}.{worker.pid}")
        rig.run("jobjar", "rebuild")
    worker.kill()
    worker.wait()
    rig.run("recover_jobs")
    waited = rig.run("jobjar", "wait", "--timeout", "60s", "own", check=False)
    assert waited.returncode == 1 and "1 of 1 crashed" in waited.stderr, waited.stderr
    [status] = json.loads(rig.run("batch_status", "own", "--format", "json").stdout)["batches"]
    assert (status["done"], status["phases"]) == (1, {**status["phases"], "crashed": 1})
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"], len(shown["attempts"])) == ("completed", "crashed", 1)
    assert "its file was removed while it ran, so it cannot run again" in shown["attempts"][0]["message"]
    assert name in (rig.home / "completed" / name).read_text()
    assert rig.run("recover_jobs").stdout == "0 jobs returned, 0 completed\n"
    rig.assert_clean()
