"""`jobjar.Executor` with real workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.executor.errors import RemoteTraceback
from tests.rig import Rig, wait_until

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")


@pytest.fixture
def workers(rig: Rig) -> Iterator[Rig]:
    """A jar with two workers."""
    processes = [rig.start_worker(), rig.start_worker()]
    yield rig
    for process in processes:
        if process.poll() is None:
            rig.stop_worker(process)


def test_calls_return_and_raise_what_they_do_here(workers: Rig, own_library: Any) -> None:
    class Own:
        def __init__(self, value: int) -> None:
            self.value = value

    secret = Own(7)

    def fail(reason: str) -> None:
        raise LookupError(reason)

    with jobjar.Executor(2, name="calls", env={"COLOUR": "red"}) as executor:
        assert executor.submit(pow, 2, 8).result() == 256
        made = executor.submit(lambda: Own(secret.value + 1)).result()
        assert type(made) is Own and made.value == 8
        assert executor.submit(lambda: os.environ["COLOUR"]).result() == "red"
        failed = executor.submit(fail, "not there")
        with pytest.raises(LookupError, match="not there") as raised:
            failed.result()
        assert isinstance(raised.value.__cause__, RemoteTraceback) and "in fail" in str(raised.value.__cause__)
        with pytest.raises(TypeError, match="pickle"):
            executor.submit(threading.Lock).result()
        with pytest.raises(TypeError, match="pickle"):
            executor.submit(repr, threading.Lock()).result()
        assert executor.submit(sys.exit, 3).exception().__class__ is SystemExit
        assert list(executor.map(lambda a, b: a * b, range(2000), range(2000))) == [n * n for n in range(2000)]
        assert list(executor.map(str, range(10), chunksize=4)) == [*"0123456789"]
        assert list(executor.map(str, range(10), buffersize=3)) == [*"0123456789"]
        quick = [executor.submit(abs, -n) for n in range(20)]
        assert {future.result() for future in futures.as_completed(quick)} == {*range(20)}
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    jobs = jobjar.list_jobs()
    # Two thousand calls went as few jobs, all by the name that was given.
    assert len(jobs) < 200 and {job.outcome for job in jobs} == {"succeeded"} and "calls" in jobs[0].name
    assert os.listdir(workers.home / "executors") == []
    workers.assert_clean()


def test_a_call_whose_process_dies_is_lost_and_the_others_are_not(
    workers: Rig, own_library: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "once"

    def die_once() -> str:
        if not mark.exists():
            mark.touch()
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    with jobjar.Executor(2) as executor:
        executor.submit(abs, 1).result()
        calls: list[futures.Future[Any]] = [executor.submit(abs, n) for n in range(10)]
        calls[3] = executor.submit(die_once)
        with pytest.raises(jobjar.CallLost, match=r"die_once has no result: its job .*signal 9.*\n  about to die"):
            calls[3].result()
        assert [call.result() for n, call in enumerate(calls) if n != 3] == [n for n in range(10) if n != 3]
    mark.unlink()
    with jobjar.Executor(2, retries=1, retry_delay=0) as executor:
        assert executor.submit(die_once).result() == "alive"
    with jobjar.Executor(2, time_limit=0.5) as executor, pytest.raises(futures.BrokenExecutor, match="timed out"):
        executor.submit(time.sleep, 60).result()
    workers.assert_clean()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"max_workers": 0}, "greater than 0"),
        ({"name": "a/b"}, "identifier"),
        ({"priority": "high"}, "priority"),
        ({"category": "../x"}, "category"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"colour": "red"}, "no attribute 'colour'"),
        ({"jar": "/none"}, "not a jar"),
    ],
)
def test_what_cannot_be_is_an_error_at_once(own_library: Any, given: dict[str, Any], error: str) -> None:
    with pytest.raises((ValueError, jobjar.JarError), match=error):
        jobjar.Executor(**given)


def test_an_initializer_that_fails_breaks_the_executor(workers: Rig, own_library: Any) -> None:
    def initialize(value: str) -> None:
        os.environ["COLOUR"] = value

    with jobjar.Executor(2, initializer=initialize, initargs=("blue",)) as executor:
        assert executor.submit(lambda: os.environ["COLOUR"]).result() == "blue"
    with jobjar.Executor(2, initializer=int, initargs=("x",)) as executor:
        call = executor.submit(abs, 1)
        with pytest.raises(jobjar.ExecutorBroken, match="the initializer raised ValueError"):
            call.result()
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(abs, 1)


def test_nobody_waits_for_ever(rig: Rig, own_library: Any) -> None:
    """Without a worker: time-outs, cancellation, jobs that somebody removes or cancels, a jar that goes away."""
    executor = jobjar.Executor(1)
    calls = [executor.submit(abs, n) for n in range(9)]
    wait_until(lambda: len(rig.names("unclaimed")) == 4, "the first groups to be sent")
    with pytest.raises(TimeoutError):
        calls[0].result(timeout=0)
    assert calls[8].cancel() and calls[8].cancelled()
    assert calls[0].cancel() and calls[0].cancelled() and not calls[1].done()
    wait_until(lambda: len(rig.names("completed")) == 1, "the job of the cancelled call to be cancelled")
    wait_until(lambda: len(rig.names("unclaimed")) == 4, "the next group to be sent")
    assert "no worker" in str(rig.explain(rig.names("unclaimed")[0]))
    open_calls = set(calls[1:8])
    jobjar.cancel(rig.names("unclaimed")[0])
    (cancelled,), open_calls = futures.wait(open_calls, 30, futures.FIRST_COMPLETED)
    assert "cancelled" in str(cancelled.exception(0)) and isinstance(cancelled.exception(0), jobjar.CallLost)
    (rig.home / "unclaimed" / rig.names("unclaimed")[0]).unlink()
    (removed,), open_calls = futures.wait(open_calls, 30, futures.FIRST_COMPLETED)
    assert "was removed" in str(removed.exception(0))
    executor.shutdown(cancel_futures=True)
    assert len(open_calls) == 5 and all(call.cancelled() for call in open_calls)
    assert rig.names("unclaimed") == []
    executor = jobjar.Executor(1)
    call = executor.submit(abs, 1)
    wait_until(lambda: rig.names("unclaimed"), "the call to be sent")
    (directory,) = (rig.home / "executors").iterdir()
    directory.rename(rig.home / "elsewhere")
    with pytest.raises(jobjar.ExecutorBroken, match="somebody removed its directory"):
        call.result(30)
    executor.shutdown()
    rig.assert_clean()
