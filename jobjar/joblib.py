"""A backend of joblib: after `import jobjar.joblib`, `joblib.parallel_config("jobjar")` has joblib, and so scikit-learn, run on
the workers of a jar. Further arguments of parallel_config are those of `jobjar.Executor`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase  # as the backends of Dask and Ray do

from jobjar.executor.executor import Executor


class JobJarBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """`options` are the arguments of `jobjar.Executor`. `n_jobs` is its `max_workers`; -1 is as many as run in the jar."""

    supports_retrieve_callback = True
    supports_timeout = True
    default_n_jobs = -1

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self._executor: Executor | None = None
        self._futures: set[Future[Any]] = set()

    def __reduce__(self) -> Any:
        # What runs in a call and wants a backend gets a new one.
        return _remake, (self.nesting_level, self._options)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls are to run at once. Raises ValueError, and what `jobjar.Executor` raises."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs > 0:
            return n_jobs or 1
        executor = self._executor or Executor(**self._options)
        return executor.max_workers

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        n_jobs = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        self._executor = Executor(n_jobs, **self._options)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        assert self._executor is not None
        future = self._executor.submit(func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        return future.result()

    def terminate(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has not begun."""
        for future in list(self._futures):
            future.cancel()
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def _remake(nesting_level: int | None, options: dict[str, Any]) -> JobJarBackend:
    return JobJarBackend(nesting_level, **options)


register_parallel_backend("jobjar", JobJarBackend)
