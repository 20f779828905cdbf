"""Try what the jar's disk does, in a directory of the doctor's own: run, rename, link, sync, tell the time.

Makes `$JJ_HOME/doctor/<node>.<pid>.<random>/` and removes it, and `doctor/` too if it is empty. A kill midway leaves them. The
next doctor removes what a dead process of its node left, and what nobody touched for ten minutes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.host import node_name
from jobjar.job_file.names import new_id
from jobjar.layout import Layout
from jobjar.liveness import MARK, mark, own_nodes
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.files import sync_directory, write_all
from jobjar.shared_disk.leftovers import find_leftovers
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.moves import move
from jobjar.shared_disk.trees import remove_tree
from jobjar.units import format_seconds

GROUP = "jar's disk"
ABANDONED_AFTER_S = 600.0
SLOW_SYNC_S = 0.05
SLOW_RENAME_S = 0.01
CLOCK_NOTE_S = 1.0
CLOCK_WARNING_S = 60.0
_SAMPLES = 10
_EXECUTED = 7
_RENAME_NOREPLACE, _AT_FDCWD = 1, -100


@contextlib.contextmanager
def own_directory(layout: Layout) -> Iterator[str]:
    """A directory in the jar for the doctor's own files, removed afterwards. Raises OSError."""
    path = f"{layout.doctor}/{node_name()}.{mark()}.{new_id()}"
    try:
        for tries_left in reversed(range(5)):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(layout.doctor)
                os.mkdir(path)
                break
            except FileNotFoundError:  # another doctor finished and removed the empty directory
                if not tries_left:
                    raise
        sweep(layout, path)
        yield path
    finally:
        remove_all(path)
        remove_if_empty(layout.doctor)


def sweep(layout: Layout, own: str) -> None:
    """Remove what killed doctors left."""
    now = read_disk_clock(f"{own}/clock")
    entries = list(list_directory(layout.doctor))
    left = find_leftovers((entry.name for entry in entries), rf"{own_nodes()}\.{MARK}\.[^.]+")
    for entry in entries:
        if entry.path == own:
            continue
        with contextlib.suppress(OSError):  # another doctor or its owner is removing it
            if entry.name in left or now - _newest(entry.path) > ABANDONED_AFTER_S:
                remove_all(entry.path)


def remove_all(path: str) -> None:
    remove_tree(path)


def remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _newest(path: str) -> float:
    """The time of the latest change under a directory."""
    times = [os.stat(path).st_mtime]
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                times.append(os.lstat(f"{directory}/{name}").st_mtime)
        with contextlib.suppress(FileNotFoundError):
            times.append(os.stat(directory).st_mtime)
    return max(times)


def look_at_disk(layout: Layout) -> Iterator[Finding]:
    """Try out what the jar's disk does."""
    try:
        with own_directory(layout) as own:
            yield Finding(GROUP, "writing", FINE, "a file can be made and removed")
            yield look_at_running(own)
            yield look_at_moving(own)
            yield look_at_links(own)
            yield measure_sync(own)
            yield measure_rename(own)
            yield measure_clock(own)
    except OSError as error:
        yield Finding(
            GROUP,
            "writing",
            DANGER,
            f"{error.filename or layout.doctor}: {error.strerror}",
            "workers on this node can neither claim nor complete jobs",
            "make room, mount it read-write, or let this user write to the jar",
        )


def look_at_running(own: str) -> Finding:
    """Run a small script from the jar."""
    path = f"{own}/script"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
    try:
        write_all(descriptor, f"#!/bin/sh\nexit {_EXECUTED}\n".encode())
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    try:
        status = _run_patiently(path)
    except OSError as error:
        return Finding(
            GROUP,
            "running a job",
            DANGER,
            error.strerror or str(error),
            "what is executable in the jar cannot be executed on this node: every job would fail with status 126",
            "mount it with exec, and look whether it keeps run bits (`ls -l` after `chmod +x`)",
        )
    except subprocess.TimeoutExpired:
        meaning = "this node or its disk is very slow"
        return Finding(
            GROUP, "running a job", WARNING, "no end after 30 s", meaning, "look what keeps it busy (top, iostat)"
        )
    if status != _EXECUTED:
        meaning = "another status than the script's was seen: jobs that succeed would be taken for failed"
        advice = "look at /bin/sh, and whether something on this node watches what is run"
        return Finding(GROUP, "running a job", DANGER, f"exit status {status}", meaning, advice)
    return Finding(GROUP, "running a job", FINE, "a script from the jar runs")


def _run_patiently(path: str) -> int:
    """Run a program. If the disk says that it is still open for writing, try again, as workers do."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return subprocess.run([path], stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode
        except OSError as error:
            if error.errno != errno.ETXTBSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def look_at_moving(own: str) -> Finding:
    """Whether a move refuses to overwrite, and by which means."""
    check = "moves never overwrite"
    source, taken = f"{own}/source", f"{own}/taken"
    for path, text in ((source, b"source"), (taken, b"taken")):
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        write_all(descriptor, text)
        os.close(descriptor)
    refused = False
    with contextlib.suppress(FileExistsError):
        move(source, taken)
        refused = True
    if refused or _read(taken) != b"taken":
        return Finding(GROUP, check, DANGER, "a move replaced a file", "jobs may be lost", "do not use this disk")
    move(source, f"{own}/free")
    if _read(f"{own}/free") != b"source" or os.path.lexists(source):
        return Finding(GROUP, check, DANGER, "a move did not move", "jobs may be lost", "do not use this disk")
    if _refuses_to_replace(f"{own}/free", taken):
        return Finding(GROUP, check, FINE, "by the kernel (RENAME_NOREPLACE)")
    return Finding(GROUP, check, FINE, "by a link taken first: this disk has no RENAME_NOREPLACE")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _refuses_to_replace(source: str, taken: str) -> bool:
    """Whether the disk itself knows RENAME_NOREPLACE: it answers EEXIST, not EINVAL."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(taken), _RENAME_NOREPLACE)
    return ctypes.get_errno() == errno.EEXIST


def look_at_links(own: str) -> Finding:
    """Whether symbolic links work, since claimed/ consists of them."""
    try:
        os.symlink(f"{own}/taken", f"{own}/link")
        if os.readlink(f"{own}/link") == f"{own}/taken":
            return Finding(GROUP, "links", FINE, "symbolic links can be made")
        reason = "a link leads elsewhere than it was made to"
    except OSError as error:
        reason = error.strerror or str(error)
    meaning = "claimed/ cannot show what is claimed; workers may not be able to claim"
    return Finding(GROUP, "links", DANGER, reason, meaning, "use a disk with symbolic links (cifs: mfsymlinks)")


def measure_sync(own: str) -> Finding:
    """The time to make a small file durable, as each submission does."""
    times = []
    for number in range(_SAMPLES):
        start = time.monotonic()
        descriptor = os.open(f"{own}/sync.{number}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, b"x" * 512)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        times.append(time.monotonic() - start)
    median = sorted(times)[len(times) // 2]
    measured = (
        f"{median * 1000:.2f} ms to write and fsync a small file (slowest of {_SAMPLES}: {max(times) * 1000:.1f} ms)"
    )
    if median > SLOW_SYNC_S:
        meaning = f"one process submits at most {1 / median:.0f} jobs a second"
        return Finding(GROUP, "fsync", NOTE, measured, meaning, "submit many at a time: jobjar.submit_jobs(…)")
    return Finding(GROUP, "fsync", FINE, measured)


def measure_rename(own: str) -> Finding:
    """The time of a move, measured by renaming a directory back and forth. A job takes two moves or more."""
    os.mkdir(f"{own}/here")
    os.mkdir(f"{own}/there")
    os.mkdir(f"{own}/here/x")
    start = time.monotonic()
    for _ in range(_SAMPLES):
        os.rename(f"{own}/here/x", f"{own}/there/x")
        os.rename(f"{own}/there/x", f"{own}/here/x")
    each = (time.monotonic() - start) / (2 * _SAMPLES)
    sync_directory(f"{own}/here")
    measured = f"{each * 1e6:.0f} µs to rename a directory"
    if each > SLOW_RENAME_S:
        meaning = f"a job takes three or more renames: at most some {1 / (4 * each):.0f} jobs a second and worker"
        return Finding(GROUP, "rename", NOTE, measured, meaning, "make jobs longer than that")
    return Finding(GROUP, "rename", FINE, measured)


def measure_clock(own: str) -> Finding:
    """This node's clock compared with the disk's."""
    offset, doubt = clock_offset(f"{own}/clock")
    measured = f"this node is {format_seconds(abs(offset))} {'ahead of' if offset > 0 else 'behind'} the disk"
    if abs(offset) <= max(doubt, 0.1):
        measured = f"this node agrees with the disk to {max(doubt, abs(offset), 0.001) * 1000:.0f} ms"
    return Finding(GROUP, "clock", *judge_clock(offset, measured))


def clock_offset(path: str) -> tuple[float, float]:
    """This node's clock minus the disk's, and the error of that, in seconds."""
    best = (0.0, float("inf"))
    for _ in range(3):
        before = time.time()
        server = read_disk_clock(path)
        after = time.time()
        # The clock behind file times ticks only every few milliseconds.
        doubt = (after - before) / 2 + 0.01
        if doubt < best[1]:
            best = ((before + after) / 2 - server, doubt)
    return best


def judge_clock(offset_s: float, measured: str) -> tuple[str, str, str, str]:
    """The verdict, measurement, meaning and advice for a difference between clocks."""
    meaning = "no job depends on it, but make(1) and its like take new files for old, and people misread times"
    if abs(offset_s) > CLOCK_WARNING_S:
        return WARNING, measured, meaning, "run NTP (chrony, systemd-timesyncd) on every node"
    if abs(offset_s) > CLOCK_NOTE_S:
        return NOTE, measured, meaning, "run NTP (chrony, systemd-timesyncd) on every node"
    return FINE, measured, "", ""
