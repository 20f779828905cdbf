"""Whether a process is alive, dead or unknown.

A process is known by its id, the time it started, the boot that it ran in and the PID namespace (pid_namespaces(7)) that
its id counts in, so that a process id that came round again is not taken for the old process. Who runs in the same boot and
the same namespace sees whether it is there, whatever the node was called then and is called now. A node that has booted
since has none of its processes any more. Otherwise the answer is unknown.

The kernel gives a namespace's number to another one when the last process in it is gone. Whoever finds himself in a
namespace of a recorded number finds the recorded process there, or it is dead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from jobjar.host import node_name

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ALIVE = "alive"
DEAD = "dead"
UNKNOWN = "unknown"
# The number of the PID namespace that a machine boots with (PROC_PID_INIT_INO in the kernel), and that of a system without.
_FIRST_NAMESPACE = ("4026531836", "0")


class ProcessIdentity(NamedTuple):
    """`started`: on Linux clock ticks since boot (proc(5), stat field 22), elsewhere epoch seconds."""

    node: str
    pid: int
    started: float
    boot_id: str
    # '' in what an earlier release wrote: it is taken for the first one (_FIRST_NAMESPACE), on a node of its name.
    pid_namespace: str = ""


def boot_id() -> str:
    """What differs from one boot of this node to the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        import psutil

        return str(int(psutil.boot_time()))


@functools.cache
def pid_namespace() -> str:
    """The number of the PID namespace that this process runs in; on systems without such a thing always the same."""
    return str(os.stat("/proc/self/ns/pid").st_ino) if sys.platform == "linux" else "0"


def sees_processes() -> bool:
    """Whether /proc shows the processes of this process's own PID namespace. `unshare --pid` without `--mount-proc` leaves
    that of another one there, in which the same ids are those of other processes."""
    return sys.platform != "linux" or os.readlink("/proc/self") == str(os.getpid())


def mark() -> str:
    """What a temporary name says of its maker: `<process id>+<PID namespace>`. For `is_left`, and MARK."""
    return f"{os.getpid()}+{pid_namespace()}"


# What `mark` returns, or the bare process id of an earlier release.
MARK = r"(?P<mark>[0-9]+(?:\+[0-9]+)?)"
# Nodes that are gone for good, by the word of the person who runs this process (recover_jobs --node).
gone_nodes: set[str] = set()


def own_nodes() -> str:
    """A pattern of the nodes whose left-overs this process may remove, if their makers are no more: this one, and those that
    are gone."""
    return f"(?P<node>{'|'.join(map(re.escape, sorted({node_name(), *gone_nodes})))})"


def is_left(name: re.Match[str]) -> bool:
    """Whether the process that made a name is no more: by its mark (MARK), and by its node where the name tells that too
    (`own_nodes`). One of another PID namespace is not known, unless the node is gone."""
    node = name.groupdict().get("node") or node_name()
    pid, _, namespace = name["mark"].partition("+")
    if node in gone_nodes and (node != node_name() or namespace not in ("", pid_namespace())):
        return True
    return namespace in ("", pid_namespace()) and sees_processes() and process_start(int(pid)) is None


@functools.cache
def node_run() -> str:
    """What differs from one run of this node to the next: of a machine its boot, of a container its first process too."""
    return f"{boot_id()}.{process_start(1) or 0:.0f}"


def process_start(pid: int) -> float | None:
    """When process `pid` started; None where there is none, or only a zombie.

    On Linux in ticks since boot: unlike psutil's epoch seconds they do not change when the clock is set, and a worker
    that seemed to have another start time would lose its jobs while it runs them.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def process_ids() -> list[int]:
    """The ids of all processes that this one sees."""
    if sys.platform == "linux":
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    import psutil

    return psutil.pids()


def process_environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with. Raises PermissionError where this user may not see it, OSError where
    there is no such process."""
    if sys.platform == "linux":
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = os.fsdecode(file.read()).split("\0")
        return dict(variable.split("=", 1) for variable in variables if "=" in variable)
    import psutil

    try:
        return psutil.Process(pid).environ()
    except psutil.AccessDenied as error:
        raise PermissionError(*error.args) from error
    except psutil.Error as error:
        raise ProcessLookupError(*error.args) from error


def process_user(pid: int) -> int:
    """The id of the user who runs a process. Raises OSError where there is no such process."""
    if sys.platform == "linux":
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
    import psutil

    try:
        return psutil.Process(pid).uids().real
    except psutil.Error as error:
        raise ProcessLookupError(*error.args) from error


def start_now(action: Callable[[], int]) -> tuple[int, float | None]:
    """Start a process by `action`, which returns its id; returns the id and when it started, as `process_start` says.

    The kernel stamps a new process with CLOCK_BOOTTIME. Where the same tick shows before and after there is nothing to
    ask, and asking means waiting for the new process's exec.
    """
    if sys.platform != "linux":
        pid = action()
        return pid, process_start(pid)
    before = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    pid = action()
    after = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    return pid, float(before) if before == after else process_start(pid)


def this_process() -> ProcessIdentity:
    """Who this process is."""
    return ProcessIdentity(node_name(), os.getpid(), process_start(os.getpid()) or 0.0, boot_id(), pid_namespace())


def is_here(process: ProcessIdentity) -> bool:
    """Whether it can be known here if a process is alive: it is one of this boot and this PID namespace, whatever the node is
    called, or of an earlier boot of this node."""
    is_namesake = process.node == node_name()
    if process.boot_id != boot_id():
        return is_namesake
    is_near = process.pid_namespace == pid_namespace() or (
        not process.pid_namespace and is_namesake and pid_namespace() in _FIRST_NAMESPACE
    )
    return is_near and sees_processes()


def liveness(process: ProcessIdentity) -> str:
    """ALIVE, DEAD or UNKNOWN: never a guess."""
    if not is_here(process):
        return UNKNOWN
    if process.boot_id != boot_id():
        return DEAD
    return ALIVE if process_start(process.pid) == process.started else DEAD


def session_processes(session: int) -> list[int]:
    """The process ids of a session (setsid(2)), zombies left out."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session and process_start(pid) is not None:
                found.append(pid)
    return found


def own_children() -> set[int] | None:
    """The ids of this process's children, whatever thread they belong to; None where the kernel does not tell."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
    except OSError:
        return None
    return found


def processes_of_jobs(worker_id: str, job_ids: set[str], phases: frozenset[str] | None = None) -> list[int]:
    """The process ids that a worker started for these jobs, by their environment (JJ_WORKER_ID and JJ_JOB_ID); with `phases`,
    only those of these phases of them (JJ_PHASE)."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            environment = process_environment(pid)
            is_asked_for = phases is None or environment.get("JJ_PHASE") in phases
            is_theirs = environment.get("JJ_WORKER_ID") == worker_id and environment.get("JJ_JOB_ID") in job_ids
            if is_theirs and is_asked_for:
                found.append(pid)
    return found
