"""How a fresh worker takes the place of one that ends: what it is told of its predecessor, and how it begins.

The fresh worker is the same process with a new program (execv). The process id stays, and with it the worker's name, its
directory, its journaled start, and its parent's hold on it (a terminal, systemd, check_workers). Nothing else stays. So orders
always reach a worker, and failures leave no directories behind. Writes nothing. A kill at any point leaves an ordinary dead
worker that holds no job.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from jobjar.attempts.capacity import Offer
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.layout import WorkerPaths
from jobjar.liveness import ProcessIdentity
from jobjar.settings.layers import home_of_library
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.umask import return_umask
from jobjar.worker.own_end import NO_LIMITS, Limits


class Predecessor(NamedTuple):
    """The worker whose place a fresh one takes: its name and id, its failures in a row, whether its output goes to its
    worker.log, the program that started it, whether root may run others' jobs (`--as-root-for-group`), and what it left of its
    limits."""

    name: str
    worker_id: str
    failures: int
    is_logging: bool = False
    program_path: str | None = None
    root_is_meant: bool = False
    limits: Limits = NO_LIMITS


def read_predecessor(text: str) -> Predecessor:
    """Parse what `begin_afresh` passed to this program. Raises ValueError, TypeError."""
    said = json.loads(text)
    return Predecessor(**{**said, "limits": Limits(*said.get("limits", ()))})


def begin_afresh(
    home: str,
    categories: Sequence[str],
    is_storage: bool,
    offer: Offer,
    predecessor: Predecessor,
    orders: Sequence[int],
    raised: Container[int],
    log: Callable[[str], None],
) -> None:
    """Become a fresh worker with the same options. Returns only if that is impossible, or if one of the signals `orders` is
    among the `raised` ones. This worker has to leave then."""
    if not os.path.exists(__file__):
        log("its software was moved or changed while it ran, so that no fresh worker can be started; this one leaves")
        return
    # Signals that come from now on wait for the fresh worker's handlers. Before it has them, these signals would kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    named = [name.removeprefix(STORAGE_CATEGORY) if is_storage else name for name in categories]
    # Only a jar's own programs find the library that the jar carries.
    carrier = home_of_library()
    program = ["-P", "-m", "jobjar.programs.start_worker"] if carrier is None else [f"{carrier}/bin/start_worker"]
    words = [sys.executable, *program, "--foreground", "--home", home]
    words += ["--storage"] if is_storage else []
    words += offer.words()
    words += ["--as-root-for-group"] if predecessor.root_is_meant else []
    words += ["--in-place-of", json.dumps(predecessor._asdict()), "--", *named]
    try:
        if not any(number in raised for number in orders):
            return_umask()
            os.execv(sys.executable, words)
    except (OSError, ValueError) as error:  # ValueError: sys.executable is empty, so Python's path is unknown
        log(f"no fresh worker could be started ({sys.executable or 'python'}: {error}); this one leaves")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, orders)


def is_own_directory(paths: WorkerPaths, worker_id: str, identity: ProcessIdentity) -> bool:
    """Whether a directory belongs to the worker of this id, which runs in this process and has not ended. Raises OSError."""
    try:
        said = read_document(paths.identity_file, WORKER)
        process = ProcessIdentity(
            said["node"], said["pid"], said["process_started"], said["boot_id"], said.get("pid_namespace", "")
        )
        return process == identity and said["worker_id"] == worker_id and said.get("ended_at") is None
    except (FileNotFoundError, NotADirectoryError, UnfitFile, Unreadable):
        return False
