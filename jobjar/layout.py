"""All paths in a jar. No other module knows where things are.

A *place* is a path as journals and ledgers write it. It is relative to the jar, and the same on every node, wherever the disk
is mounted and wherever JJ_WORKER_HOME is: `unclaimed/LINUX/x.5`, `workers/rain.7/jobs/LINUX/x.5`, `completed/x.5`.
"""

from __future__ import annotations

import os

# The prefix of the directories in limbo where a change of a batch writes jobs. Nobody else looks for jobs there.
STAGED = ".batch-"
# The prefix of the directories in limbo where jobs are on their way to be cancelled, each one's by a person.
CANCELLING = ".cancel-"
# The suffix of a chunk's directory while its jobs move to unclaimed. They are journaled, or are about to be.
LEAVING = ".leaving"
# The directory beside the chunks into which cancelled jobs are moved. It has the sub-directories of unclaimed.
TAKEN = "cancelled"
# The same for cancelled jobs that were held.
TAKEN_HELD = "held"
TOKENS_IN_BLOCK = 64
# The orders to all workers of a jar, beside their directories.
STOP_ALL, PAUSE_ALL = "STOP_ALL", "PAUSE_ALL"
# The place of a file that is in no jar: one that somebody brought by hand came from there, one that was removed went there.
NOWHERE = ""


class WorkerPaths:
    """The paths of one worker's directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.jobs = f"{path}/jobs"
        self.scratch = f"{path}/scratch"
        self.output = f"{path}/output"
        self.next_output = f"{path}/output/.next"
        self.discarded_links = f"{path}/spent"
        # Where chunks of arrays are that it is about to give away (arrays/sharing.py).
        self.sharing = f"{path}/sharing"
        self.identity_file = f"{path}/worker.json"
        self.heartbeat = f"{path}/heartbeat"
        self.log = f"{path}/worker.log"
        self.stop_file = f"{path}/STOP"
        self.pause_file = f"{path}/PAUSE"

    def kill_file(self, job: str) -> str:
        return f"{self.path}/KILL.{job}"

    def output_file(self, job_name: str, attempt: int, number: int = 1) -> str:
        """Return the file of an attempt's output. The second, third … `number` is for one whose name is taken."""
        return f"{self.output}/{job_name}.{attempt}{f'~{number}' if number > 1 else ''}.out"


class BatchPaths:
    """The paths of one batch's directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = f"{path}/batch.json"
        # It has the <id>.json of the current change, and the files that this change writes.
        self.change = f"{path}/change"
        # The files of the array that the batch is (arrays/definition.py).
        self.array = f"{path}/array"
        self.script = f"{path}/array/script"
        self.entries = f"{path}/array/entries"
        self.entries_at = f"{path}/array/entries.at"
        # What is to become of single tasks (arrays/orders.py).
        self.orders = f"{path}/array/orders"


class ExecutorPaths:
    """The paths of one executor's directory (executor/)."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Files of calls, a group of them each: those that wait, and those that a job has taken.
        self.calls = f"{path}/calls"
        self.taken = f"{path}/taken"
        # `<group>.<attempt>.<random>`: what calls returned or raised.
        self.results = f"{path}/results"

    def directories(self) -> list[str]:
        return [self.path, self.calls, self.taken, self.results]


class LimitPaths:
    """The paths of one limit. Free tokens are in `free/`, in blocks of TOKENS_IN_BLOCK: `free/0/1` to `free/0/64`, `free/1/65`
    and so on. Tokens that workers hold are in `taken/`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.count_file = f"{path}/count"
        self.free = f"{path}/free"
        self.taken = f"{path}/taken"

    def block(self, number: int) -> str:
        """Return the block that has the token of this number while it is free."""
        return f"{self.free}/{(number - 1) // TOKENS_IN_BLOCK}"

    def free_token(self, number: int) -> str:
        return f"{self.block(number)}/{number}"


class PilotQueuePaths:
    """The paths of one queue of pilots. Each pilot has a directory, `open/<number>/` or, when it has ended, `ended/<number>/`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = f"{path}/queue.json"
        self.paused_file = f"{path}/paused.json"
        self.failures_file = f"{path}/failures.json"
        self.removed_file = f"{path}/removed.json"
        self.turn = f"{path}/turn"  # a soft lock
        self.open = f"{path}/open"
        self.ended = f"{path}/ended"


class PilotPaths:
    """The paths of one pilot."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = f"{path}/pilot.json"
        self.script = f"{path}/script"
        self.output = f"{path}/output"


class Layout:
    """The paths of one jar."""

    def __init__(self, home: str, worker_home: str | None = None) -> None:
        self.home = home
        self.workers = worker_home or f"{home}/workers"
        self.bin = f"{home}/bin"
        self.crontabs = f"{home}/crontabs"
        self.documents = f"{home}/documents"
        self.python = f"{home}/python"  # the library, if the jar carries it
        self.config_file = f"{home}/config.ini"
        self.limbo = f"{home}/limbo"
        self.unclaimed = f"{home}/unclaimed"
        self.claimed = f"{home}/claimed"
        self.completed = f"{home}/completed"
        self.archive = f"{home}/archive"
        self.software = f"{home}/software"
        self.underway = f"{home}/underway"
        self.batches = f"{home}/batches"
        self.setups = f"{home}/setups"
        self.limits = f"{home}/limits"
        self.pilots = f"{home}/pilots"
        self.ledger = f"{home}/ledger"
        self.journals = f"{home}/ledger/journals"
        self.jar_id_file = f"{home}/ledger/jar_id"
        self.snapshot = f"{home}/ledger/snapshot.db"
        self.publishing = f"{home}/ledger/publishing"
        self.archiving = f"{home}/ledger/archiving"
        self.doctor = f"{home}/doctor"
        self.executors = f"{home}/executors"  # made by the first one
        self.stop_all_file = f"{self.workers}/{STOP_ALL}"
        self.pause_all_file = f"{self.workers}/{PAUSE_ALL}"

    def directories(self) -> list[str]:
        """Return the directories that every jar has, parents first."""
        return [
            self.home,
            self.bin,
            self.crontabs,
            self.documents,
            self.limbo,
            self.unclaimed,
            self.claimed,
            self.completed,
            self.software,
            self.underway,
            self.batches,
            self.limits,
            self.ledger,
            self.journals,
            self.workers,
        ]

    def archived_workers(self, date: str) -> str:
        """Return the directory of the workers that were archived on `date` (YYYY-MM-DD)."""
        return f"{self.archive}/{date}/workers"

    def category_directory(self, category: str) -> str:
        """Return the directory of the unclaimed jobs of `category`; '' means the uncategorized jobs."""
        return f"{self.unclaimed}/{category}" if category else self.unclaimed

    def clock_file(self, node: str) -> str:
        """Return the file that a node touches to read the disk's clock."""
        return f"{self.ledger}/clock.{node}"

    def worker(self, name: str) -> WorkerPaths:
        return WorkerPaths(f"{self.workers}/{name}")

    def limit(self, key: str) -> LimitPaths:
        """Return the paths of a limit such as `category.LINUX` or `batch.wc`."""
        return LimitPaths(f"{self.limits}/{key}")

    def claimed_alias(self, worker: str) -> str:
        """Return the hidden link in claimed/ to a worker's jobs. The links to its jobs lead through it, which keeps their targets
        short enough for an inode (59 bytes on ext4). A longer target takes a block of its own, and ten times as long."""
        return f"{self.claimed}/.{worker}"

    def executor(self, id: str) -> ExecutorPaths:
        return ExecutorPaths(f"{self.executors}/{id}")

    def batch(self, name: str) -> BatchPaths:
        return BatchPaths(f"{self.batches}/{name}")

    def pilot_queue(self, name: str) -> PilotQueuePaths:
        return PilotQueuePaths(f"{self.pilots}/{name}")

    def staged(self, change_id: str) -> str:
        """Return the directory where a change of a batch writes jobs before they are submitted."""
        return f"{self.limbo}/{STAGED}{change_id}"

    def cancelling(self, id: str) -> str:
        """Return the directory of the jobs that are on their way to be cancelled by one call."""
        return f"{self.limbo}/{CANCELLING}{id}"

    def path(self, place: str) -> str:
        """Return the path of `place` on this node."""
        if place.startswith("workers/"):
            return f"{self.workers}/{place[8:]}"
        return f"{self.home}/{place}"


def archive_place(date: str) -> str:
    """Return the place of the jobs that were archived on `date` (YYYY-MM-DD)."""
    return f"archive/{date}/completed"


def unclaimed_place(category: str, name: str) -> str:
    return f"unclaimed/{category}/{name}" if category else f"unclaimed/{name}"


def worker_place(worker: str) -> str:
    """Return the place of a worker's directory."""
    return f"workers/{worker}"


def jobs_place(worker: str) -> str:
    """Return the place of the jobs that `worker` holds."""
    return f"{worker_place(worker)}/jobs"


def held_place(worker: str, category: str, name: str) -> str:
    """Return the place of a job that `worker` holds. It shows the category: `jobs/` has the sub-directories of unclaimed."""
    return f"{jobs_place(worker)}/{category}/{name}" if category else f"{jobs_place(worker)}/{name}"


def name_in_place(place: str) -> str:
    return place.rpartition("/")[2]


def state_of_place(place: str) -> str:
    """Return the state of a job at `place`: limbo, unclaimed, claimed or completed."""
    top = place.partition("/")[0]
    return {"workers": "claimed", "archive": "completed"}.get(top, top)


def category_of_place(place: str) -> str | None:
    """Return the category that a place shows; None in limbo, completed and archive, which do not show it."""
    parts = place.split("/")
    if parts[0] == "unclaimed":
        return parts[1] if len(parts) == 3 else ""
    if parts[0] == "workers":
        return parts[3] if len(parts) == 5 else ""
    return None


def worker_of_place(place: str) -> str | None:
    """Return the worker that holds a job at `place`, or None."""
    parts = place.split("/")
    return parts[1] if parts[0] == "workers" else None
