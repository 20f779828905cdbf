"""`jobjar.map`, `@jobjar.job`, `jobjar.gather`, `jobjar.wait_async`, and joblib's backend."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import jobjar
from tests.executor.test_executor import workers as workers
from tests.rig import Rig

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")


@jobjar.job
def square(number: int) -> int:
    """The square of a number."""
    return number * number


@jobjar.job(category="A", name="sum")
def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.mark.slow
def test_functions_run_on_the_jar(workers: Rig, own_library: Any) -> None:
    workers.start_worker("A")
    assert jobjar.map(lambda a, b: a + b, range(5), range(5)) == [0, 2, 4, 6, 8]
    with pytest.raises(ZeroDivisionError):
        jobjar.map(lambda a: 1 // a, [1, 0, 2])
    futures = [square(3), add(1), add(2, b=5)]
    assert jobjar.gather(futures, timeout=60) == [9, 2, 7]
    assert square.__doc__ == "The square of a number." and square.function(3) == 9
    failing = [add("x"), square(2)]  # type: ignore[arg-type]
    failed, good = jobjar.gather(failing, return_exceptions=True)
    assert isinstance(failed, TypeError) and good == 4
    with pytest.raises(TypeError):
        jobjar.gather(failing)
    named = jobjar.list_jobs(category="A")
    assert named and all("sum" in job.name for job in named)
    assert jobjar.job(named[0].name).category == "A"
    with pytest.raises(jobjar.JarError, match="neither the name of a job nor a function"):
        jobjar.job(7)  # type: ignore[call-overload]

    async def wait() -> Any:
        job = jobjar.submit("true")
        waiting = asyncio.create_task(jobjar.wait_async(job, timeout=60))
        called = await asyncio.wrap_future(square(5))
        cancelled = asyncio.create_task(
            jobjar.wait_async(jobjar.submit("true", hold=True, category="none"), timeout=60)
        )
        cancelled.cancel()
        return job, called, await waiting

    job, called, outcomes = asyncio.run(wait())
    assert called == 25 and outcomes == {job: "succeeded"}


@pytest.mark.slow
def test_scikit_learn_searches_on_the_jar(workers: Rig, own_library: Any) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    import jobjar.joblib as backend

    assert backend.JobJarBackend(max_workers=2).effective_n_jobs(-1) == 2
    numbers = [[float(n), float(n % 3)] for n in range(12)]
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 100.0]}, cv=2)
    with joblib.parallel_config("jobjar", n_jobs=2, name="grid"):
        search.fit(numbers, [3 * a + b for a, b in numbers])
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(5)) == [0, 1, 4, 9, 16]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(1, n) for n in (1, 0))
    assert search.best_params_ == {"alpha": 0.1}
    assert any("grid" in job.name for job in jobjar.list_jobs())
