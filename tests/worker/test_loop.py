"""However much there is that a worker cannot have now, it looks at its orders and beats, and what is behind gets its turn."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from jobjar.attempts import passed_over
from jobjar.attempts.limits import BATCH, set_limit
from jobjar.attempts.put_off import PutOff
from jobjar.ledger.rebuild import fill_ledger
from jobjar.stages import claim
from tests.attempts.test_candidates import count_calls
from tests.attempts.test_limits import NOW, claim_next, claimed, make_claimer
from tests.rig import Rig, wait_until

OF_WC = "#!/bin/sh\n#JJ batch = wc\n#JJ run_command = true\nexit 2\n"


def drop_many(rig: Rig, count: int) -> None:
    for number in range(count):
        rig.drop(f"by hand {number:04}", OF_WC)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["STOP", "SIGTERM", "SIGUSR1"])
def test_three_thousand_jobs_of_a_batch_whose_limit_is_used_up_keep_a_worker_from_nothing(rig: Rig, order: str) -> None:
    rig.environment.update(JJ_POLL_TIME="0.1", JJ_HEARTBEAT_TIME="0.1")
    drop_many(rig, 3000)
    set_limit(rig.open(), BATCH, "wc", 0)
    workers = [rig.start_worker() for _ in range(2)]
    directories = [next((rig.home / "workers").glob(f"*.{worker.pid}")) for worker in workers]
    # A plain job behind them all.
    rig.drop("behind.-1", "#!/bin/sh\n")
    wait_until(lambda: rig.names("completed") == ["behind.-1"], "the job behind them", 120)
    for directory in directories:
        beat = (directory / "heartbeat").stat().st_mtime_ns
        wait_until(partial(_has_beaten_since, directory, beat), "another beat")
    [reason] = rig.show("by hand 2999")["waits_because"]
    assert reason == "the limit of batch wc (0) is used up; `workload_limit --batch wc N` sets another"
    for worker, directory in zip(workers, directories, strict=True):
        if order == "STOP":
            (directory / "STOP").touch()
        else:
            worker.send_signal(getattr(signal, order))
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert len(rig.names("unclaimed")) == 3000


def _has_beaten_since(directory: Path, beat: int) -> bool:
    return (directory / "heartbeat").stat().st_mtime_ns > beat


def test_a_hand_made_job_s_file_is_read_once_and_again_when_it_was_changed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1")
    set_limit(claimer.jar, BATCH, "wc", 0)
    drop_many(rig, 300)
    fill_ledger(claimer.jar.ledger)
    read = count_calls(passed_over, "read_header", monkeypatch)
    for _ in range(3):
        assert claim_next(claimer) is None
        claimer.passed_over.jobs.clear()
    assert len(read) == 300
    changed = rig.home / "unclaimed/by hand 0123"
    changed.write_text("#!/bin/sh\n")
    assert claimed(claimer).name == changed.name
    assert len(read) == 301


def test_one_turn_tries_so_many_jobs_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    set_limit(claimer.jar, BATCH, "wc", 0)
    drop_many(rig, 300)
    fill_ledger(claimer.jar.ledger)
    monkeypatch.setattr(claim, "_TURN_S", float("inf"))
    monkeypatch.setattr(claim, "_TRIES", 100)
    read = count_calls(passed_over, "read_header", monkeypatch)
    turns = 0
    claimer.has_more = True
    while claimer.has_more:
        before, turns = len(read), turns + 1
        assert claim.claim_next(claimer, NOW, print) is None
        assert len(read) - before <= 100
    assert len(read) == 300 and turns >= 3


def test_a_slow_disk_ends_a_turn_by_the_clock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    set_limit(claimer.jar, BATCH, "wc", 0)
    drop_many(rig, 50)
    fill_ledger(claimer.jar.ledger)
    read = count_calls(passed_over, "read_header", monkeypatch)
    monkeypatch.setattr(claim, "_TURN_S", 0.0)
    assert claim.claim_next(claimer, NOW, print) is None
    assert claimer.has_more and len(read) == 1


def test_what_is_put_off_is_so_for_longer_the_longer_it_takes_to_try_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waiting: PutOff[int] = PutOff(0.1)
    # Each takes 10 ms to try, and the first may be tried again after a tenth of a second: the last gets its turn all the same.
    tries = 0
    while not all(key in waiting for key in range(500)):
        for key in range(500):
            if key not in waiting:
                now[0] += 0.01
                waiting.add(key, 0.01)
                tries += 1
                break
        assert tries < 2000
    assert waiting.next_end_s() > 0
    now[0] += 200
    assert 0 not in waiting and waiting.keys() == [] and len(waiting.all_keys()) == 500
    waiting.forget_old()
    assert not waiting


@pytest.mark.slow
def test_a_limit_that_is_raised_lets_hand_made_jobs_run(rig: Rig) -> None:
    rig.environment.update(JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="1h")
    drop_many(rig, 200)
    set_limit(rig.open(), BATCH, "wc", 0)
    worker = rig.start_worker()
    rig.drop("behind.-1", "#!/bin/sh\n")
    wait_until(lambda: rig.names("completed") == ["behind.-1"], "the job behind them")
    set_limit(rig.open(), BATCH, "wc", 1)
    wait_until(lambda: len(rig.names("completed")) == 201, "all of them", 120)
    rig.stop_worker(worker)


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_while_it_folds_much_does_so(rig: Rig, tmp_path: Path) -> None:
    """A long history that its ledger does not know yet: another node's journal."""
    lines = "".join(
        f'\n{{"entry":"submitted","job":"{number:012}","name":"x-{number:012}","category":"","submitter":"a","submitted_at":1}}'
        for number in range(300_000)
    )
    (rig.home / "ledger/journals/elsewhere.abcdefgh.jsonl").write_text(lines)
    rig.environment["JJ_HEARTBEAT_TIME"] = "0.05"
    worker = rig.start_worker()
    heartbeat = next((rig.home / "workers").glob(f"*.{worker.pid}")) / "heartbeat"
    beats = {heartbeat.stat().st_mtime_ns}

    def has_beaten_again() -> bool:
        beats.add(heartbeat.stat().st_mtime_ns)
        return len(beats) > 2

    wait_until(has_beaten_again, "a beat in the midst of it")
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert os.path.exists(rig.home / "ledger/ledger.db"), time.monotonic() - began
