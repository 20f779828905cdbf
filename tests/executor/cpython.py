"""CPython's own tests of executors, run on `jobjar.Executor`: `python -m tests.executor.cpython DIRECTORY`, with JJ_HOME.

DIRECTORY has `test_concurrent_futures` (a file, or since Python 3.12 a package). Its tests are mixed with an executor of ours as
it mixes them with its own.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import unittest
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

from jobjar.executor.executor import Executor
from tests.rig import wait_until

OWN_PROCESSES = (
    "it looks at the processes or the context of ProcessPoolExecutor, and a jar's workers are no children of ours"
)
BY_NAME = "its program makes an executor of the standard library, by name"
# The tests of executors that are not run, each with the reason.
NOT_RUN = {
    "test_interpreter_shutdown": BY_NAME,
    "test_submit_after_interpreter_shutdown": BY_NAME,
    "test_hang_gh83386": BY_NAME,
    "test_hang_gh94440": BY_NAME,
    **dict.fromkeys(
        (
            *(
                "test_processes_terminate",
                "test_context_manager_shutdown",
                "test_del_shutdown",
                "test_shutdown_no_wait",
            ),
            *("test_max_workers_too_large", "test_killed_child", "test_saturation", "test_idle_process_reuse_one"),
            *("test_idle_process_reuse_multiple", "test_max_tasks_per_child", "test_max_tasks_early_shutdown"),
            *(
                "test_max_tasks_per_child_defaults_to_spawn_context",
                "test_python_finalization_error",
                "test_force_shutdown",
            ),
            *(
                "test_terminate_workers",
                "test_kill_workers",
                "test_force_shutdown_workers",
                "test_process_fork_from_a_thread",
            ),
        ),
        OWN_PROCESSES,
    ),
    "test_traceback": "it wants the private class _RemoteTraceback; ours says the same",
    "test_ressources_gced_in_workers": "it needs a multiprocessing.Manager, whose proxies reach no other machine",
}
# What is run of classes that are made for ProcessPoolExecutor alone, and the classes that are run whole.
RUN_OF_PROCESSES = {"test_map_chunksize"}
WHOLE = ("ExecutorTest", "WaitTests", "AsCompletedTests", "InitializerMixin", "FailingInitializerMixin")
PARTS = ("ExecutorShutdownTest", "ProcessPoolExecutorTest", "ProcessPoolShutdownTest")
# Deadlocks: each makes ProcessPoolExecutor with a context of multiprocessing; test_executor.py asks the same of ours.
LEFT_OUT = ("ExecutorDeadlockTest",)


class WaitsForOne(Executor):
    """For `test_cancel_futures`: "we can guarantee that at least one finished" holds once one has begun. Python's executors begin
    within a millisecond, and jobs do not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first: Future[Any] | None = None

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._first = self._first or future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        first = self._first
        if cancel_futures and first is not None:
            wait_until(lambda: first.running() or first.done(), "the first call to begin")
        super().shutdown(wait, cancel_futures=cancel_futures)


def find_classes(directory: str) -> dict[str, type]:
    """The classes of the tests, by name."""
    sys.path.append(directory)
    modules = [importlib.import_module("test_concurrent_futures")]
    if hasattr(modules[0], "__path__"):
        for path in sorted(Path(modules[0].__path__[0]).glob("*.py")):
            if path.stem != "__main__":
                modules.append(importlib.import_module(f"test_concurrent_futures.{path.stem}"))
    return {name: found for module in modules for name, found in classes_of(module)}


def classes_of(module: ModuleType) -> list[tuple[str, type]]:
    return inspect.getmembers(module, inspect.isclass)


def tests_of(found: type) -> list[str]:
    return [name for name in dir(found) if name.startswith("test_")]


def make_suite(classes: dict[str, type]) -> unittest.TestSuite:
    """All tests that apply. Fails for one that is neither run nor listed."""
    suite = unittest.TestSuite()
    base = classes["BaseTestCase"]
    for name in (*WHOLE, *PARTS):
        if name not in classes:
            continue
        bases = (
            (classes[name], base)
            if issubclass(classes[name], classes["ExecutorMixin"])
            else (classes["ExecutorMixin"], classes[name], base)
        )
        made = type(f"JobJar{name}", bases, {"executor_type": WaitsForOne})
        own = set(tests_of(classes[name]))
        if name.startswith("ProcessPool"):
            own = {test for test in own if test in vars(classes[name])}
            assert own <= NOT_RUN.keys() | RUN_OF_PROCESSES, own - NOT_RUN.keys() - RUN_OF_PROCESSES
        for test in sorted(own - NOT_RUN.keys()):
            suite.addTest(made(test))
    return suite


def main() -> int:
    classes = find_classes(sys.argv[1])
    found = make_suite(classes)
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(found)
    return not result.wasSuccessful()


if __name__ == "__main__":
    sys.exit(main())
