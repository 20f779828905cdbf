"""The node itself: its name, its boot id, its limits, inotify, Python, cron. Reads; writes nothing."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.doctor.node_name import look_at_changes
from jobjar.errors import BadCategory
from jobjar.host import NAMES_OF_MANY, node_name
from jobjar.jar import Jar
from jobjar.job_file.names import check_category
from jobjar.liveness import boot_id
from jobjar.roster import ASIDE
from jobjar.version import VERSION

GROUP = "node"
FEWEST_OPEN_FILES = 256
FEWEST_PROCESSES_A_WORKER = 32
FEWEST_INOTIFY_INSTANCES_A_WORKER = 2


def look_at_node(jar: Jar) -> Iterator[Finding]:
    yield look_at_name()
    yield from look_at_changes(jar)
    yield look_at_boot_id()
    yield from look_at_limits(jar)
    yield look_at_inotify(jar)
    yield look_at_python(jar)
    yield from look_at_cron(jar)


def look_at_name() -> Finding:
    """Whether the host name is usable: it is part of the workers' names, and the node's implicit category."""
    name = node_name()
    check = "host name"
    if not name or name in NAMES_OF_MANY:
        meaning = "other nodes are called so too: each would take the other's workers for its own, and their jobs back"
        return Finding(GROUP, check, DANGER, name or "empty", meaning, "hostnamectl set-hostname NAME, or set JJ_NODE")
    try:
        check_category(name)
        reason = f"it has {ASIDE!r}, which marks what was set aside" if ASIDE in name else ""
    except BadCategory as error:
        reason = str(error.fields["reason"])
    if reason:
        meaning = f"workers, or the category of this node, cannot be named after it: {reason}"
        return Finding(GROUP, check, WARNING, ascii(name), meaning, "use letters, digits, dots and hyphens")
    return Finding(GROUP, check, FINE, name)


def look_at_boot_id() -> Finding:
    try:
        return Finding(GROUP, "boot id", FINE, boot_id())
    except OSError as error:
        meaning = "after a reboot, a process that got a dead worker's id could be taken for it"
        return Finding(GROUP, "boot id", WARNING, str(error), meaning, "mount /proc here")


def look_at_limits(jar: Jar) -> Iterator[Finding]:
    """The limits (ulimit) of workers that are started from here."""
    workers = max(1, jar.settings.max_workers)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    shown = "unlimited" if files == resource.RLIM_INFINITY else str(files)
    if files != resource.RLIM_INFINITY and files < FEWEST_OPEN_FILES:
        meaning = "workers and jobs run out of open files"
        yield Finding(GROUP, "open files", WARNING, shown, meaning, "ulimit -n 1024")
    else:
        yield Finding(GROUP, "open files", FINE, shown)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    shown = "unlimited" if processes == resource.RLIM_INFINITY else str(processes)
    if processes != resource.RLIM_INFINITY and processes < FEWEST_PROCESSES_A_WORKER * workers and os.geteuid():
        meaning = f"{workers} workers and their jobs may not be able to start processes"
        yield Finding(GROUP, "processes", WARNING, shown, meaning, "raise it in limits.conf(5), or by ulimit -u")
    else:
        yield Finding(GROUP, "processes", FINE, shown)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size != resource.RLIM_INFINITY:
        meaning = "a journal, a ledger or a job's output that grows beyond that cannot be written"
        yield Finding(GROUP, "file size", WARNING, f"limited to {size} bytes", meaning, "ulimit -f unlimited")


def look_at_inotify(jar: Jar) -> Finding:
    """Whether a sleeping worker can be woken at once."""
    check = "inotify"
    if sys.platform != "linux":
        return Finding(
            GROUP, check, NOTE, "not on this system", "submissions are noticed within JJ_POLL_TIME", "nothing"
        )
    from inotify_simple import INotify, flags

    try:
        watcher = INotify()
        try:
            watcher.add_watch(jar.layout.unclaimed, flags.CREATE)
        finally:
            watcher.close()
    except OSError as error:
        meaning = "workers see submissions, STOP and PAUSE only within JJ_POLL_TIME"
        advice = "raise fs.inotify.max_user_instances and max_user_watches by sysctl(8)"
        return Finding(GROUP, check, WARNING, error.strerror or str(error), meaning, advice)
    instances = _read_number("/proc/sys/fs/inotify/max_user_instances")
    watches = _read_number("/proc/sys/fs/inotify/max_user_watches")
    measured = f"works; {instances} instances and {watches} watches a user"
    wanted = FEWEST_INOTIFY_INSTANCES_A_WORKER * max(1, jar.settings.max_workers)
    if instances is not None and instances < wanted:
        meaning = (
            f"{jar.settings.max_workers} workers and other programs want more; workers without one look by the clock"
        )
        return Finding(
            GROUP, check, NOTE, measured, meaning, f"sysctl fs.inotify.max_user_instances={max(128, wanted)}"
        )
    return Finding(GROUP, check, FINE, measured)


def _read_number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def look_at_python(jar: Jar) -> Finding:
    """This Python, and the Python that the jar's own programs name."""
    measured = f"{platform.python_version()} ({sys.executable}), Job Jar {VERSION}"
    try:
        with open(f"{jar.layout.bin}/jobjar", "rb") as file:
            first = file.readline().decode(errors="replace").strip()
    except OSError as error:
        meaning = f"{jar.layout.bin}/jobjar: {error.strerror}; jobs call submit_job and its like from there"
        return Finding(GROUP, "Python", WARNING, measured, meaning, f"jobjar init {jar.layout.home}")
    interpreter = first.removeprefix("#!").split(" ")[0]
    if not os.access(interpreter, os.X_OK):
        meaning = (
            f"the jar's programs want {interpreter}, which this node does not have: jobs that submit jobs fail here"
        )
        return Finding(GROUP, "Python", WARNING, measured, meaning, "install it at the same path on every node")
    return Finding(GROUP, "Python", FINE, measured)


def look_at_cron(jar: Jar) -> Iterator[Finding]:
    """Whether this user's crontab keeps workers running, and returns stranded jobs."""
    program = shutil.which("crontab")
    if program is None:
        meaning = "nothing starts workers after a reboot or takes stranded jobs back, unless something else does"
        advice = "call check_workers and recover_jobs from a systemd timer, or install cron"
        yield Finding(GROUP, "cron", NOTE, "there is no crontab program", meaning, advice)
        return
    try:
        answer = subprocess.run([program, "-l"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(GROUP, "cron", NOTE, f"crontab -l: {error}", "it is not known what is installed", "crontab -l")
        return
    called = programs_called(os.fsdecode(answer.stdout), jar.layout.home)
    for wanted, file, meaning in (
        ("check_workers", "worker.cron", "nothing starts workers here after a reboot"),
        ("recover_jobs", "recovery.cron", "jobs stranded on this node wait until somebody calls recover_jobs"),
    ):
        if wanted in called:
            yield Finding(GROUP, "cron", FINE, f"calls {wanted} for this jar")
        else:
            advice = f"(crontab -l; cat {jar.layout.crontabs}/{file}) | crontab -"
            yield Finding(GROUP, "cron", NOTE, f"does not call {wanted} for this jar", meaning, advice)


def programs_called(crontab: str, home: str) -> set[str]:
    """The programs of Job Jar that a crontab's lines call for the jar at `home`."""
    called = set()
    named = ""
    for line in crontab.splitlines():
        line = line.strip()
        found = re.fullmatch(r"JJ_HOME\s*=\s*(.*)", line)
        if found:
            named = found.group(1).strip().strip("\"'")
        elif line and not line.startswith("#") and (named == home or re.search(rf"{re.escape(home)}(?![\w.-])", line)):
            called.update(re.findall(r"\b(check_workers|recover_jobs|start_worker)\b", line))
    return called
