"""Job Jar: a batch queue on a shared disk, with no daemon and no server.

The library. It finds the jar as the programs do: `set_home`, the environment, the configuration files. Everything is
imported when it is first used, so that `import jobjar` costs next to nothing.
"""

from __future__ import annotations

from jobjar.version import VERSION as __version__

# As typing.TYPE_CHECKING, without the 10 ms that importing typing takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jobjar.errors import JarError as JarError
    from jobjar.executor.errors import CallLost as CallLost, ExecutorBroken as ExecutorBroken
    from jobjar.executor.executor import Executor as Executor
    from jobjar.executor.functions import gather as gather, job as job, map as map  # noqa: A004
    from jobjar.library import (
        Job as Job,
        claimed_jobs as claimed_jobs,
        completed_jobs as completed_jobs,
        get_categories as get_categories,
        get_home as get_home,
        get_pause_time as get_pause_time,
        get_worker_home as get_worker_home,
        pause_all as pause_all,
        pause_node as pause_node,
        pause_worker as pause_worker,
        running_workers as running_workers,
        set_categories as set_categories,
        set_home as set_home,
        set_pause_time as set_pause_time,
        set_worker_home as set_worker_home,
        stop_all as stop_all,
        stop_node as stop_node,
        stop_worker as stop_worker,
        submit_job as submit_job,
        submit_job_file as submit_job_file,
        submit_jobs as submit_jobs,
        unclaimed_jobs as unclaimed_jobs,
        unique_job_name as unique_job_name,
        unpause_all as unpause_all,
        unpause_node as unpause_node,
        unpause_worker as unpause_worker,
    )
    from jobjar.library_batches import (
        abort_batch as abort_batch,
        batch_edit as batch_edit,
        batch_status as batch_status,
        get_output as get_output,
        list_outputs as list_outputs,
        submit_batch as submit_batch,
        workload_limit as workload_limit,
        workload_limits as workload_limits,
    )
    from jobjar.library_looking import (
        explain as explain,
        follow_output as follow_output,
        history as history,
        list_jobs as list_jobs,
        list_workers as list_workers,
        output as output,
        stats as stats,
    )
    from jobjar.library_steering import (
        cancel as cancel,
        hold as hold,
        move as move,
        release as release,
        remove as remove,
        retry as retry,
        set_priority as set_priority,
    )
    from jobjar.library_submit import submit as submit, submit_array as submit_array
    from jobjar.library_waiting import wait as wait, wait_async as wait_async

_LIBRARY = (
    "Job",
    "claimed_jobs",
    "completed_jobs",
    "get_categories",
    "get_home",
    "get_pause_time",
    "get_worker_home",
    "pause_all",
    "pause_node",
    "pause_worker",
    "running_workers",
    "set_categories",
    "set_home",
    "set_pause_time",
    "set_worker_home",
    "stop_all",
    "stop_node",
    "stop_worker",
    "submit_job",
    "submit_job_file",
    "submit_jobs",
    "unclaimed_jobs",
    "unique_job_name",
    "unpause_all",
    "unpause_node",
    "unpause_worker",
)
_LIBRARY_BATCHES = (
    "abort_batch",
    "batch_edit",
    "batch_status",
    "get_output",
    "list_outputs",
    "submit_batch",
    "workload_limit",
    "workload_limits",
)
_LIBRARY_LOOKING = ("explain", "follow_output", "history", "list_jobs", "list_workers", "output", "stats")
_LIBRARY_STEERING = ("cancel", "hold", "move", "release", "remove", "retry", "set_priority")
_LIBRARY_SUBMIT = ("submit", "submit_array")
_LIBRARY_WAITING = ("wait", "wait_async")
_FUNCTIONS = ("gather", "job", "map")
_ERRORS = ("CallLost", "ExecutorBroken")
__all__ = [
    "Executor",
    "JarError",
    "__version__",
    *_LIBRARY_SUBMIT,
    *_LIBRARY,
    *_LIBRARY_BATCHES,
    *_LIBRARY_LOOKING,
    *_LIBRARY_STEERING,
    *_LIBRARY_WAITING,
    *_FUNCTIONS,
    *_ERRORS,
]


def __getattr__(name: str) -> Any:
    if name in _LIBRARY:
        from jobjar import library

        return getattr(library, name)
    if name in _LIBRARY_BATCHES:
        from jobjar import library_batches

        return getattr(library_batches, name)
    if name in _LIBRARY_SUBMIT:
        from jobjar import library_submit

        return getattr(library_submit, name)
    if name in _LIBRARY_LOOKING:
        from jobjar import library_looking

        return getattr(library_looking, name)
    if name in _LIBRARY_STEERING:
        from jobjar import library_steering

        return getattr(library_steering, name)
    if name == "Executor":
        from jobjar.executor.executor import Executor

        return Executor
    if name in _LIBRARY_WAITING:
        from jobjar import library_waiting

        return getattr(library_waiting, name)
    if name in _FUNCTIONS:
        from jobjar.executor import functions

        return getattr(functions, name)
    if name in _ERRORS:
        from jobjar.executor import errors

        return getattr(errors, name)
    if name == "JarError":
        from jobjar.errors import JarError

        return JarError
    raise AttributeError(f"module 'jobjar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
