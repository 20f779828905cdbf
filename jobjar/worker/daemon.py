"""Start workers in the background. Daemonise first and open files afterwards: python-daemon closes inherited ones.

The starting process waits until the worker has its directory, or reports why it has none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from jobjar.access.refusals import explain_unfit
from jobjar.attempts.capacity import Offer
from jobjar.errors import JarError, NameTaken, WorkerFailed
from jobjar.jar import Jar
from jobjar.shared_disk.files import open_common_file
from jobjar.text import printable
from jobjar.version import VERSION
from jobjar.worker.failure_pause import RESTARTING
from jobjar.worker.log import WorkerLog
from jobjar.worker.own_end import NO_LIMITS, Limits
from jobjar.worker.successor import Predecessor

_READY = b"+"
_FAILED = b"-"
_TURN_PATIENCE_S = 60.0


def run_in_foreground(
    jar: Jar,
    categories: tuple[str, ...],
    to_log: bool = False,
    ready: Callable[[str], None] | None = None,
    is_storage: bool = False,
    predecessor: Predecessor | None = None,
    limits: Limits = NO_LIMITS,
    offer: Offer | None = None,
) -> None:
    """Run a worker in this process until it leaves. With `to_log`, standard output and error go to its worker.log. A storage
    worker asks only these categories.

    `ready` is called with the worker's name once it has its directory. `predecessor` is the worker whose place in this process
    it takes, `limits` when it ends by itself, `offer` what it has for its jobs (default: by the settings). Raises the errors of
    Worker.start, except NameTaken.
    """
    from jobjar.worker.loop import Worker

    worker_log = WorkerLog(puts_off=jar.ledger_home.has_other_homes)
    while True:
        worker = Worker(jar, categories, worker_log.write, worker_log, is_storage, predecessor, limits, offer)
        try:
            worker.start()
            break
        except NameTaken:
            continue  # a worker in another container, with the same node name and process id, was quicker; try the next name
    try:
        descriptor = open_common_file(worker.paths.log, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        raise WorkerFailed(reason=f"{worker.paths.log}: {error.strerror}") from error
    if to_log:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    else:
        worker_log.descriptors.append(descriptor)
    worker_log.write(f"worker {worker.name}, version {VERSION}, categories: {' '.join(categories) or 'none'}")
    if ready is not None:
        ready(worker.name)
    reason = "crashed"
    try:
        reason = worker.run()
        if reason == RESTARTING:
            reason = worker.begin_afresh(to_log)
    finally:
        worker.finish(reason)


def start_worker(
    jar: Jar,
    categories: tuple[str, ...],
    is_storage: bool = False,
    limits: Limits = NO_LIMITS,
    offer: Offer | None = None,
) -> str:
    """Start a worker (or a storage worker) in the background; returns its name. `limits`: when it ends by itself; `offer`: what
    it has for its jobs. Raises WorkerFailed with its message."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _become_daemon(jar, categories, writer, is_storage, limits, offer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    with contextlib.suppress(ChildProcessError):  # if SIGCHLD is ignored, the kernel has reaped it
        os.waitpid(child, 0)
    if not answer.startswith(_READY):
        said = answer[1:].decode("utf-8", "replace").strip() or "it ended without a word"
        raise WorkerFailed(reason=said.removeprefix(WorkerFailed.template.format(reason="")))
    return answer[1:].decode()


def _become_daemon(
    jar: Jar, categories: tuple[str, ...], writer: int, is_storage: bool, limits: Limits, offer: Offer | None
) -> None:
    """Never returns: this process and the two that detaching makes exit here."""
    status = 1
    try:
        import daemon

        jar.take_umask()
        # No signal is changed. By default python-daemon ignores a terminal's signals, and each job would inherit that.
        with daemon.DaemonContext(
            detach_process=True,
            files_preserve=[writer],
            umask=jar.umask,
            working_directory=jar.layout.home,
            signal_map={},
        ):

            def ready(name: str) -> None:
                os.write(writer, _READY + name.encode())
                os.close(writer)

            run_in_foreground(
                jar, categories, to_log=True, ready=ready, is_storage=is_storage, limits=limits, offer=offer
            )
        status = 0
    except (JarError, OSError, ImportError) as error:
        said = explain_unfit(error) if isinstance(error, ImportError) else str(error)
        with contextlib.suppress(OSError):  # the worker had started, so the starting process has closed the pipe
            os.write(writer, _FAILED + printable(said).encode())
    except Exception:
        import traceback

        traceback.print_exc()
        with contextlib.suppress(OSError):
            os.write(writer, _FAILED + printable(traceback.format_exc(limit=-1)).encode())
    finally:
        os._exit(status)


def check_workers(
    jar: Jar, categories: tuple[str, ...], is_storage: bool = False, limits: Limits = NO_LIMITS
) -> list[str]:
    """Start workers until this node runs JJ_MAX_WORKERS ordinary workers, or JJ_MAX_STORAGE_WORKERS storage workers of exactly
    these categories. Workers of a setup (`limits.setup`) are counted by themselves. Returns the names of the new ones.

    Two calls on one node take turns by a lock. Raises WorkerFailed, NoneMayStart, LedgerBusy.
    """
    from jobjar.control import check_may_start
    from jobjar.ledger.home import poll_for_lock
    from jobjar.liveness import ALIVE
    from jobjar.roster import running_workers

    check_may_start(jar.layout)
    path = jar.ledger_home.check_workers_lock
    descriptor = open_common_file(path, os.O_RDWR)
    try:
        poll_for_lock(descriptor, path, _TURN_PATIENCE_S)
        here = [
            worker
            for worker in running_workers(jar.layout)
            if worker.alive == ALIVE
            and worker.is_storage == is_storage
            and worker.setup == limits.setup
            and (not is_storage or set(worker.categories) == set(categories))
        ]
        wanted = jar.settings.max_storage_workers if is_storage else jar.settings.max_workers
        return [start_worker(jar, categories, is_storage, limits) for _ in range(wanted - len(here))]
    finally:
        os.close(descriptor)
