"""Calls without an executor at hand: `jobjar.map`, `@jobjar.job`, `jobjar.gather`. Each makes the executor that it needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar, overload

from jobjar import library
from jobjar.errors import UsageError
from jobjar.executor.executor import Executor
from jobjar.library import Job

T = TypeVar("T")
P = ParamSpec("P")


def map(
    function: Callable[..., T],
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int = 1,
    max_workers: int | None = None,
    **options: Any,
) -> list[T]:
    """The results of `function` for the items of `iterables`, in order, when all are there. `options` are those of
    `jobjar.Executor`, `timeout` (seconds) and `chunksize` as in its `map`.

    Raises what a call raises; those that have not begun are cancelled then. Raises TimeoutError, and what `jobjar.Executor`
    raises.
    """
    executor = Executor(max_workers, **options)
    try:
        return list(executor.map(function, *iterables, timeout=timeout, chunksize=chunksize))
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        executor.shutdown(wait=False)


class JobFunction(Generic[P, T]):
    """A function whose call runs on the workers of the jar. `function` is the one that it was made from."""

    def __init__(self, function: Callable[P, T], options: dict[str, Any]) -> None:
        self.function, self._options = function, options
        self._executors: dict[str, Executor] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call; returns its future. Raises what `jobjar.Executor` and its `submit` raise."""
        home = str(self._options.get("jar", "")) or library.get_home()
        if home not in self._executors:
            self._executors[home] = Executor(**self._options)
        return self._executors[home].submit(self.function, *args, **kwargs)

    def __reduce__(self) -> Any:
        # Where it runs, it makes executors of its own.
        return JobFunction, (self.function, self._options)


@overload
def job(name: str, /) -> Job: ...
@overload
def job(name: Callable[P, T], /) -> JobFunction[P, T]: ...
@overload
def job(**options: Any) -> Callable[[Callable[P, T]], JobFunction[P, T]]: ...


def job(name: str | Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """As a decorator, `@jobjar.job` or `@jobjar.job(category="GPU")`: a call of the function submits it, and returns a future.
    `options` are those of `jobjar.Executor`.

    With a text, `jobjar.job(name)`: all that is known of one job. `name` is its name, its id, the beginning of its id, or its
    path; or the id of an array, or a task (`ARRAY[7]`), whose attempts are its ends. Raises UnknownJob, AmbiguousJob, UsageError.
    """
    if isinstance(name, str):
        return library.job(name)
    if name is None:
        return lambda function: JobFunction(function, options)
    if not callable(name):
        raise UsageError(reason=f"{name!r} is neither the name of a job nor a function")
    return JobFunction(name, {})


@overload
def gather(futures: Iterable[Future[T]], timeout: float | None = None) -> list[T]: ...
@overload
def gather(
    futures: Iterable[Future[T]], timeout: float | None = None, *, return_exceptions: bool
) -> list[T | BaseException]: ...


def gather(
    futures: Iterable[Future[Any]], timeout: float | None = None, *, return_exceptions: bool = False
) -> list[Any]:
    """The results of futures, in order, when all have ended. With `return_exceptions`, what a call raised is in its place; else
    the first of them is raised, and the others go on. Raises TimeoutError after `timeout` seconds."""
    from concurrent.futures import FIRST_EXCEPTION, wait

    wanted = list(futures)
    done, left = wait(wanted, timeout, "ALL_COMPLETED" if return_exceptions else FIRST_EXCEPTION)
    if return_exceptions and not left:
        return [future.exception() or future.result() for future in wanted]
    for future in wanted:
        if future in done:
            future.result()
    if left:
        raise TimeoutError(f"{len(left)} (of {len(wanted)}) futures unfinished")
    return [future.result() for future in wanted]
