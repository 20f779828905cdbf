"""Find whether a process is alive, dead or unknown.

A process is identified by its id, its start time, the boot that it ran in, and the PID namespace of its id
(pid_namespaces(7)). So a process with a reused id is not taken for the old one. A process in the same boot and the same
namespace can see whether it is there, whatever the node was called then and is called now. If its node has booted since, the
process is dead. In all other cases the answer is unknown.

The kernel reuses the number of a namespace after the last process in it has ended. A process whose namespace has the recorded
number therefore sees the recorded process, or that one is dead.
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
# The number of a machine's first PID namespace (PROC_PID_INIT_INO in the kernel), and the one for systems without namespaces.
_FIRST_NAMESPACE = ("4026531836", "0")


class ProcessIdentity(NamedTuple):
    """The identity of a process. `started` is in clock ticks since boot on Linux (proc(5), stat field 22), elsewhere in epoch
    seconds."""

    node: str
    pid: int
    started: float
    boot_id: str
    # An earlier release wrote ''. On a node of the same name, it counts as the first namespace (_FIRST_NAMESPACE).
    pid_namespace: str = ""


def boot_id() -> str:
    """Return a text that differs from one boot of this node to the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        import psutil

        return str(int(psutil.boot_time()))


@functools.cache
def pid_namespace() -> str:
    """Return the number of this process's PID namespace; always the same on systems without namespaces."""
    return str(os.stat("/proc/self/ns/pid").st_ino) if sys.platform == "linux" else "0"


def is_first_namespace() -> bool:
    """Whether this is the machine itself, and no container with process ids of its own."""
    return pid_namespace() in _FIRST_NAMESPACE


def sees_processes() -> bool:
    """Whether /proc shows this process's own PID namespace. After `unshare --pid` without `--mount-proc` it still shows another
    one, where the same ids belong to other processes."""
    return sys.platform != "linux" or os.readlink("/proc/self") == str(os.getpid())


def mark() -> str:
    """Return the mark of this process for temporary names, `<process id>+<PID namespace>`. `is_maker_dead` and MARK read it."""
    return f"{os.getpid()}+{pid_namespace()}"


# Matches the result of `mark`, or the bare process id of an earlier release.
MARK = r"(?P<mark>[0-9]+(?:\+[0-9]+)?)"
# Nodes that are gone for good, as the user of this process stated (recover_jobs --node).
gone_nodes: set[str] = set()


def own_nodes() -> str:
    """Return a pattern of the nodes whose leftovers this process may remove if their makers are dead: this node, and those that
    are gone for good."""
    return f"(?P<node>{'|'.join(map(re.escape, sorted({node_name(), *gone_nodes})))})"


def is_maker_dead(name: re.Match[str]) -> bool:
    """Whether the process that made a temporary name is certainly dead. `name` is a match of a pattern with MARK, and perhaps
    with `own_nodes`; without a node in the name, this node counts. The answer is False for another PID namespace, unless the
    node is gone for good."""
    node = name.groupdict().get("node") or node_name()
    pid, _, namespace = name["mark"].partition("+")
    if node in gone_nodes and (node != node_name() or namespace not in ("", pid_namespace())):
        return True
    return namespace in ("", pid_namespace()) and sees_processes() and process_start(int(pid)) is None


@functools.cache
def node_run() -> str:
    """Return a text that differs from one run of this node to the next: a boot of the machine, or a start of the container."""
    return f"{boot_id()}.{process_start(1) or 0:.0f}"


def process_start(pid: int) -> float | None:
    """Return when process `pid` started; None if there is no such process, or only a zombie.

    On Linux this is in ticks since boot, elsewhere in epoch seconds. Unlike psutil's epoch seconds, ticks do not change when
    the clock is set. A worker whose start time seemed to change would lose its jobs while it runs them.
    """
    if sys.platform == "linux":
        try:
            descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Not by open(): its buffers cost four times as many system calls, and a worker asks for many jobs' processes.
            fields = os.read(descriptor, 4096).rpartition(b") ")[2].split()
        except ProcessLookupError:
            return None
        finally:
            os.close(descriptor)
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def process_ids() -> list[int]:
    """Return the ids of all processes that this one sees."""
    if sys.platform == "linux":
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    import psutil

    return psutil.pids()


def process_environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with. Raises PermissionError if this user may not see it, OSError if
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
    """Return the id of the user who runs a process. Raises OSError if there is no such process."""
    if sys.platform == "linux":
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
    import psutil

    try:
        return psutil.Process(pid).uids().real
    except psutil.Error as error:
        raise ProcessLookupError(*error.args) from error


def start_now(action: Callable[[], int]) -> tuple[int, float | None]:
    """Start a process by `action`, which returns its id. Returns the id, and the start time as `process_start` gives it.

    The kernel stamps a new process with CLOCK_BOOTTIME. If that shows the same tick before and after, the start time is known.
    Otherwise /proc is read, which has to wait for the new process's exec.
    """
    if sys.platform != "linux":
        pid = action()
        return pid, process_start(pid)
    before = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    pid = action()
    after = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    return pid, float(before) if before == after else process_start(pid)


def this_process() -> ProcessIdentity:
    """Return the identity of this process."""
    return ProcessIdentity(node_name(), os.getpid(), process_start(os.getpid()) or 0.0, boot_id(), pid_namespace())


def is_here(process: ProcessIdentity) -> bool:
    """Whether this process can know if another one is alive. It can if that is of this boot and this PID namespace, whatever
    the node is called, or of an earlier boot of this node."""
    is_namesake = process.node == node_name()
    if process.boot_id != boot_id():
        return is_namesake
    is_near = process.pid_namespace == pid_namespace() or (
        not process.pid_namespace and is_namesake and is_first_namespace()
    )
    return is_near and sees_processes()


def liveness(process: ProcessIdentity) -> str:
    """Return ALIVE, DEAD or UNKNOWN. The answer is never a guess."""
    if not is_here(process):
        return UNKNOWN
    if process.boot_id != boot_id():
        return DEAD
    return ALIVE if process_start(process.pid) == process.started else DEAD


def session_processes(session: int) -> list[int]:
    """Return the process ids of a session (setsid(2)), without zombies."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session and process_start(pid) is not None:
                found.append(pid)
    return found


def own_children() -> set[int] | None:
    """Return the ids of this process's children, of all its threads; None if the kernel does not show them."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
    except OSError:
        return None
    return found


def processes_of_jobs(worker_id: str, job_ids: set[str], phases: frozenset[str] | None = None) -> list[int]:
    """Return the ids of the processes that a worker started for these jobs, by their environment (JJ_WORKER_ID, JJ_JOB_ID).
    With `phases`, return only processes of these phases (JJ_PHASE)."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            environment = process_environment(pid)
            is_asked_for = phases is None or environment.get("JJ_PHASE") in phases
            is_theirs = environment.get("JJ_WORKER_ID") == worker_id and environment.get("JJ_JOB_ID") in job_ids
            if is_theirs and is_asked_for:
                found.append(pid)
    return found
