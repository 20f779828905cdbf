"""`jobjar.Executor`: a `concurrent.futures.Executor` whose calls run on the workers of a jar."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor as BaseExecutor, Future
from typing import Any, ParamSpec, TypeVar

from jobjar import roster
from jobjar.errors import JarError, UsageError
from jobjar.executor.called import call_each
from jobjar.executor.calls import Call
from jobjar.executor.desk import Desk
from jobjar.executor.jobs import Jobs
from jobjar.library import open_own_jar

T = TypeVar("T")
P = ParamSpec("P")
_NO_ARGUMENTS = pickle.dumps(((), {}))
# Executors that have not ended when their process does.
_desks: weakref.WeakSet[Desk] = weakref.WeakSet()


class Executor(BaseExecutor):
    """Runs calls on the workers of a jar.

    `max_workers` is how many workers are expected to share the calls; without it, as many as run in the jar now, or as this
    machine has processors. How many do share them is a matter of the jar. `jar` is its path, unless it is the library's.
    The calls travel in groups, a job each. These jobs have the `category`, the `priority`, the `env` (variables) and the `name`
    (else that of the function), and any other attribute of `jobjar.submit`. With a `time_limit` (seconds, or text such as '5m')
    each call is a job of its own. `retries` counts how often a job that died is run again; what a call raises is a result.
    `initializer` is called with `initargs` in each process that runs calls.
    Raises ValueError, BadAttribute, BadCategory, BadPriority, BadIdentifier, and the errors of opening a jar.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        jar: str | os.PathLike[str] | None = None,
        category: str | None = None,
        priority: int | None = None,
        retries: int | str | None = None,
        time_limit: str | float | None = None,
        env: Mapping[str, str | None] | None = None,
        name: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **attributes: Any,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        given = {"retries": retries, "time_limit": time_limit, "env": env, "name": name, **attributes}
        jobs = Jobs({"category": category, "priority": priority, **given})
        initialize = None if initializer is None else (dump(initializer), dump((tuple(initargs), {})))
        opened = open_own_jar(jar)
        self.max_workers = max_workers or _count_workers(opened.layout)
        self._desk = Desk(opened, jobs, self.max_workers, initialize)
        _desks.add(self._desk)
        # An executor that nobody can use any more ends when its calls have ended.
        weakref.finalize(self, self._desk.shut).atexit = False

    @property
    def _broken(self) -> Exception | None:
        """Why no call can be run any more; None if it can. Python's executors have it by this name."""
        return self._desk.broken

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called by a worker; returns its future. The function and its arguments are pickled now, by
        cloudpickle: if that fails, the future has the exception.

        Raises RuntimeError after `shutdown`, ExecutorBroken if the initializer failed or the executor has lost its calls.
        """
        try:
            call = Call(_name_of(fn), dump(fn), dump((args, kwargs)) if args or kwargs else _NO_ARGUMENTS)
        except Exception as error:  # what is pickled may raise anything
            return self._not_pickled(fn, error)
        self._desk.submit([call])
        return call.future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of `fn` for the items of `iterables`, in order. `timeout` is in seconds, from now. With `chunksize`, so
        many items are one call. With `buffersize`, so many calls at most are on their way, and their items are read one by one.

        Raises ValueError, and what pickling raises; the iterator raises TimeoutError and what calls raise.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and (not isinstance(buffersize, int) or buffersize < 1):
            raise ValueError("buffersize must be None or > 0")
        items = zip(*iterables, strict=False)
        if chunksize > 1:
            pieces = iter(lambda: tuple(itertools.islice(items, chunksize)), ())
            chunks = self._results(call_each, ((fn, piece) for piece in pieces), timeout, buffersize, _name_of(fn))
            return itertools.chain.from_iterable(chunks)
        return self._results(fn, items, timeout, buffersize, _name_of(fn))

    def _results(
        self,
        fn: Callable[..., T],
        items: Iterable[tuple[Any, ...]],
        timeout: float | None,
        buffersize: int | None,
        name: str,
    ) -> Iterator[T]:
        deadline = None if timeout is None else time.monotonic() + timeout
        function = dump(fn)
        rest = iter(items)

        def submit_next(count: int | None) -> list[Future[T]]:
            calls = [Call(name, function, dump((item, {}))) for item in itertools.islice(rest, count)]
            if calls:
                self._desk.submit(calls)
            return [call.future for call in calls]

        waiting = deque(submit_next(buffersize))
        return _yield_results(waiting, (lambda: submit_next(1)) if buffersize else None, deadline)

    def _not_pickled(self, fn: object, error: Exception) -> Future[Any]:
        self._desk.submit([])  # after the end, that is what is wrong
        error.add_note(f"The call of {_name_of(fn)} could not be pickled.")
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and with `wait` return when all have ended. With `cancel_futures`, those that have not begun are
        cancelled."""
        self._desk.shut(cancel_futures)
        if wait:
            self._desk.join()


def _yield_results(
    waiting: deque[Future[T]], refill: Callable[[], list[Future[T]]] | None, deadline: float | None
) -> Iterator[T]:
    try:
        while waiting:
            if refill is not None:
                waiting.extend(refill())
            # The result must not be held by this frame while its user has it.
            yield _result_of([waiting.popleft()], None if deadline is None else deadline - time.monotonic())
    finally:
        for future in waiting:
            future.cancel()


def _result_of(only: list[Future[T]], timeout: float | None) -> T:
    try:
        return only[0].result(timeout)
    except BaseException:
        only[0].cancel()
        raise
    finally:
        only.clear()


def dump(value: Any) -> bytes:
    """The bytes of a function or of arguments. Raises what pickling raises, UsageError if cloudpickle is not installed."""
    try:
        import cloudpickle
    except ImportError as error:
        reason = "calls need the package cloudpickle: install jobjar[python]"
        raise UsageError(reason=reason) from error
    data: bytes = cloudpickle.dumps(value)
    return data


def _name_of(fn: object) -> str:
    while hasattr(fn, "func"):  # functools.partial
        fn = fn.func
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


def _count_workers(layout: Any) -> int:
    try:
        running = len(roster.running_workers(layout))
    except (JarError, OSError):
        running = 0
    return running or os.cpu_count() or 1


def _end_all() -> None:
    """At the end of the process, wait for what was submitted, as Python's executors do."""
    desks = [*_desks]
    for desk in desks:
        desk.shut()
    for desk in desks:
        desk.join()


# Python's own executors rely on it. It runs before the interpreter waits for threads, when new ones can still be started.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
