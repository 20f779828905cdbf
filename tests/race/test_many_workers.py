"""Many workers on one jar: each job runs once, has one holder at a time, and no worker starves."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from jobjar.ledger.rebuild import rebuild_ledger
from jobjar.stages.submit import describe_command, describe_file, submit, submit_all
from tests.rig import Rig, wait_until

WORKERS = 8
JOBS = 2000


def script_that_logs(log: Path, then: str = "") -> Path:
    """A job that writes its id and its worker as one line into `log`; mkdir fails if it is run twice at once."""
    path = log.with_suffix(".sh")
    path.write_text(
        f'#!/bin/sh\nmkdir "{log}.held.$JJ_JOB" || echo "TWICE $JJ_JOB" >> {log}\n'
        f'echo "$JJ_JOB $JJ_WORKER" >> {log}\n{then}\nrmdir "{log}.held.$JJ_JOB"\n'
    )
    path.chmod(0o755)
    return path


def read_log(log: Path) -> list[list[str]]:
    return [line.split(" ") for line in log.read_text().splitlines()] if log.exists() else []


def wait_for_completed(rig: Rig, count: int) -> None:
    wait_until(lambda: len(os.listdir(rig.home / "completed")) >= count, f"{count} completed jobs", 120)


@pytest.mark.slow
def test_eight_workers_run_two_thousand_jobs_once_each_and_none_starves(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    submission = describe_file(str(script_that_logs(log)))
    names = submit_all(rig.open(), [submission] * JOBS)
    workers = [rig.start_worker() for _ in range(WORKERS)]
    wait_for_completed(rig, JOBS)
    for worker in workers:
        rig.stop_worker(worker)
    ran = read_log(log)
    assert Counter(line[0] for line in ran) == Counter(names)
    shares = Counter(line[1] for line in ran)
    assert len(shares) == WORKERS
    # The last to start finds some jobs gone already; from then on they take turns.
    assert min(shares.values()) > JOBS / WORKERS / 5, shares
    rig.assert_clean()


@pytest.mark.slow
def test_dropped_and_submitted_jobs_at_the_same_time_are_all_run_once(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = script_that_logs(log)
    workers = [rig.start_worker("SOME", JJ_PAUSE_TIME="1") for _ in range(3)]
    dropped = [f"dropped-{number}.{number % 3}" for number in range(100)]

    def drop_all() -> None:
        for number, name in enumerate(dropped):
            rig.drop(name, script.read_text(), category="SOME" if number % 2 else "")

    dropping = threading.Thread(target=drop_all)
    dropping.start()
    jar = rig.open()
    submitted = [
        submit(jar, describe_file(str(script), category="SOME" if number % 2 else None)) for number in range(100)
    ]
    dropping.join()
    wait_for_completed(rig, 200)
    for worker in workers:
        rig.stop_worker(worker)
    assert Counter(line[0] for line in read_log(log)) == Counter(dropped + submitted)
    rig.assert_clean()


@pytest.mark.slow
def test_a_ledger_rebuilt_and_removed_under_four_workers_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = script_that_logs(log)
    jar = rig.open()
    names = submit_all(jar, [describe_file(str(script), priority=n % 5) for n in range(400)])
    workers = [rig.start_worker() for _ in range(4)]
    for part in range(1, 7):
        wait_for_completed(rig, part * 55)
        if part % 2:
            (rig.home / "ledger" / "ledger.db").unlink()
        else:
            rebuild_ledger(jar.layout, jar.ledger_home)
    wait_for_completed(rig, 400)
    said = [rig.stop_worker(worker) for worker in workers]
    assert Counter(line[0] for line in read_log(log)) == Counter(names)
    assert not [text for text in said if "cannot be used" in text or "damaged" in text], said
    rig.assert_clean()


@pytest.mark.slow
def test_recovery_while_workers_run_takes_nothing_from_them(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    names = submit_all(rig.open(), [describe_file(str(script_that_logs(log)))] * 300)
    workers = [rig.start_worker() for _ in range(3)]
    said = []
    while len(rig.names("completed")) < 300:
        said.append(rig.run("recover_jobs").stdout)
    for worker in workers:
        rig.stop_worker(worker)
    assert Counter(line[0] for line in read_log(log)) == Counter(names)
    assert not [text for text in said if "returned x" in text or "0 jobs returned, 0 completed" not in text], said
    rig.assert_clean()


@pytest.mark.slow
def test_two_recoveries_at_once_return_each_job_once(rig: Rig, tmp_path: Path) -> None:
    jar = rig.open()
    log = tmp_path / "log"
    names = [submit(jar, describe_command(f"echo $JJ_JOB >> {log}; sleep 60")) for _ in range(4)]
    workers = [rig.start_worker() for _ in names]
    wait_until(lambda: len(read_log(log)) == len(names), "the start of all jobs")
    for worker in workers:
        worker.kill()
        worker.wait()
    recoveries = [
        subprocess.Popen(
            [str(rig.home / "bin" / "recover_jobs")],
            env=rig.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [recovery.communicate(timeout=60) for recovery in recoveries]
    assert [recovery.returncode for recovery in recoveries] == [0, 0], said
    assert rig.names("unclaimed") == sorted(names)
    assert sum(int(out.splitlines()[-1].split()[0]) for out, _ in said) == len(names), said
    assert not rig.processes()
    for name in names:
        shown = rig.show(name)
        assert [attempt["outcome"] for attempt in shown["attempts"]] == ["stranded"]
    rig.assert_clean()


@pytest.mark.slow
def test_two_check_workers_at_once_start_no_worker_too_many(rig: Rig) -> None:
    checks = [
        subprocess.Popen(
            [str(rig.home / "bin" / "check_workers")],
            env={**rig.environment, "JJ_MAX_WORKERS": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [check.communicate(timeout=60) for check in checks]
    assert [check.returncode for check in checks] == [0, 0], said
    started = [name for out, _ in said for name in out.split()]
    assert len(started) == len(set(started)) == 3, said
    rig.run("stop_worker", "all")
    wait_until(lambda: all(rig.worker_ended(name) for name in started), "the end of the workers")
