"""How long one node's changes take to show on the other: names, contents, times; measured both ways.

The observer looks first, so its caches can become stale. The actor makes the change and sends a message; the clock runs from the
message on. Writes under the meeting's directory, which is removed afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.doctor.meeting import FIRST, SECOND, Meeting, write_file

# NFS caches a missing name for half a minute, and attributes for up to a minute.
LOOK_S = 35.0
AT_ONCE_S = 0.05
_AN_HOUR_NS = 3_600_000_000_000
_NEVER = -1.0
_WRONG = -2.0


class WrongContent(Exception):
    """The content that was read is neither the old nor the new one."""


class Change(NamedTuple):
    """One kind of change, made and observed in a directory of its own. The limits decide the verdict."""

    word: str
    prepare: Callable[[str], None]
    look_before: Callable[[str], Any]
    make: Callable[[str], None]
    is_seen: Callable[[str, Any], bool]
    note_after_s: float
    warning_after_s: float
    meaning: str
    advice: str = ""


def _write(path: str, data: bytes) -> None:
    write_file(path, data)


def _read(path: str, expected: tuple[bytes, ...]) -> bytes:
    with open(path, "rb") as file:
        data = file.read()
    if data not in expected:
        raise WrongContent(repr(data[:40]))
    return data


def _append(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"two")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: str) -> None:
    write_file(f"{path}.new", b"new")
    os.rename(f"{path}.new", path)


def _age(directory: str) -> None:
    """Set the times of a directory and its file far back, so that a change shows even on disks with coarse times."""
    long_ago = time.time_ns() - _AN_HOUR_NS
    _write(f"{directory}/file", b"x")
    os.utime(f"{directory}/file", ns=(long_ago, long_ago))
    os.utime(directory, ns=(long_ago, long_ago))


_LISTS = "look with listdir, not by the name, as Job Jar does: `ls` of the directory helps"
CHANGES = (
    Change(
        "a new name in a listing",
        lambda d: None,
        lambda d: os.listdir(d),
        lambda d: _write(f"{d}/new", b""),
        lambda d, before: "new" in os.listdir(d),
        2.0,
        15.0,
        "jobs, messages and journals of the other node are found so late",
        "mount with a shorter cache of directories (NFS: acdirmax; sshfs: dcache_timeout)",
    ),
    Change(
        "a name that was missing",
        lambda d: None,
        lambda d: os.path.lexists(f"{d}/new"),
        lambda d: _write(f"{d}/new", b""),
        lambda d, before: os.path.lexists(f"{d}/new"),
        1.0,
        float("inf"),
        "a missing name is remembered; jobs that wait for each other's files have to know it, Job Jar does",
        _LISTS,
    ),
    Change(
        "an appended line",
        lambda d: _write(f"{d}/file", b"one"),
        lambda d: _read(f"{d}/file", (b"one",)),
        lambda d: _append(f"{d}/file"),
        lambda d, before: _read(f"{d}/file", (b"one", b"onetwo")) == b"onetwo",
        5.0,
        15.0,
        "this node's picture of what the other did is so old: more claims are tried in vain",
        "mount with a shorter cache of attributes (NFS: acregmax; sshfs: dcache_timeout)",
    ),
    Change(
        "a replaced file",
        lambda d: _write(f"{d}/file", b"old"),
        lambda d: _read(f"{d}/file", (b"old",)),
        lambda d: _replace(f"{d}/file"),
        lambda d, before: _read(f"{d}/file", (b"old", b"new")) == b"new",
        5.0,
        15.0,
        "snapshots and workers' files of the other node are so old",
        "mount with a shorter cache of attributes",
    ),
    Change(
        "a removed file",
        lambda d: _write(f"{d}/file", b"x"),
        lambda d: os.path.lexists(f"{d}/file"),
        lambda d: os.unlink(f"{d}/file"),
        lambda d, before: not os.path.lexists(f"{d}/file"),
        5.0,
        float("inf"),
        "a file seems to be there for so long: more claims are tried in vain",
    ),
    Change(
        "a file's time (heartbeats)",
        _age,
        lambda d: os.stat(f"{d}/file").st_mtime_ns,
        lambda d: os.utime(f"{d}/file"),
        lambda d, before: os.stat(f"{d}/file").st_mtime_ns != before,
        10.0,
        30.0,
        "a living worker looks silent for so long",
        "keep JJ_LEASE_TIME well above it, or mount with a smaller acregmax",
    ),
    Change(
        "a directory's time",
        _age,
        lambda d: os.stat(d).st_mtime_ns,
        lambda d: _write(f"{d}/new", b""),
        lambda d, before: os.stat(d).st_mtime_ns != before,
        10.0,
        30.0,
        "sleeping workers see the other node's submissions so late",
        "mount with a smaller acdirmax; JJ_PAUSE_TIME ends their sleep in any case",
    ),
)


def measure_staleness(meeting: Meeting, group: str, lease_time_s: float) -> Iterator[Finding]:
    """Measure each change with the first node as the actor, then with the second."""
    seen_by_second = _measure(meeting, FIRST)
    seen_by_first = _measure(meeting, SECOND)
    here, there = (seen_by_first, seen_by_second) if meeting.side == FIRST else (seen_by_second, seen_by_first)
    for number, change in enumerate(CHANGES):
        yield judge_change(group, change, here[number], there[number], lease_time_s)


def _measure(meeting: Meeting, actor: str) -> list[float]:
    """Seconds until the observer saw each change; both sides return the same."""
    directories = [f"{meeting.path}/seen.{actor}.{number}" for number in range(len(CHANGES))]
    pairs = list(zip(CHANGES, directories, strict=True))
    word = f"by-{actor}"
    if meeting.side == actor:
        for change, directory in pairs:
            os.mkdir(directory)
            change.prepare(directory)
        meeting.swap(f"{word}-prepared")
        meeting.swap(f"{word}-looked")
        for change, directory in pairs:
            change.make(directory)
        meeting.send(f"{word}-made")
        return [float(value) for value in meeting.receive(f"{word}-seen", meeting.timeout_s + LOOK_S)["delays"]]
    meeting.swap(f"{word}-prepared")
    before = [_look_before(meeting, change, directory) for change, directory in pairs]
    meeting.swap(f"{word}-looked")
    meeting.receive(f"{word}-made")
    delays = _watch(pairs, before)
    meeting.send(f"{word}-seen", delays=delays)
    return delays


def _look_before(meeting: Meeting, change: Change, directory: str) -> Any:
    """The first look. It waits until the prepared files have arrived on this node."""
    deadline = time.monotonic() + min(LOOK_S, meeting.timeout_s)
    while True:
        try:
            return change.look_before(directory)
        except (OSError, WrongContent):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _watch(pairs: list[tuple[Change, str]], before: list[Any]) -> list[float]:
    start = time.monotonic()
    delays = [_NEVER] * len(pairs)
    while (waited_s := time.monotonic() - start) < LOOK_S:
        for number, (change, directory) in enumerate(pairs):
            if delays[number] == _NEVER:
                try:
                    if change.is_seen(directory, before[number]):
                        delays[number] = time.monotonic() - start
                except WrongContent:
                    delays[number] = _WRONG
                except OSError:
                    continue
        if _NEVER not in delays:
            break
        time.sleep(0.005 if waited_s < 1 else 0.05)
    return delays


def judge_change(group: str, change: Change, here_s: float, there_s: float, lease_time_s: float) -> Finding:
    """The verdict on the two delays of a change."""
    measured = f"seen here {_shown(here_s)}, there {_shown(there_s)}"
    if _WRONG in (here_s, there_s):
        meaning = "what was read is neither what was written before nor what was written then"
        return Finding(group, change.word, DANGER, measured, meaning, "use another disk or other mount options")
    worst_s = LOOK_S if _NEVER in (here_s, there_s) else max(here_s, there_s)
    if "heartbeat" in change.word and lease_time_s and worst_s > lease_time_s / 2:
        meaning = f"with JJ_LEASE_TIME {lease_time_s:g}, jobs of living workers are taken back and run twice"
        advice = f"set JJ_LEASE_TIME to more than {4 * worst_s:.0f}"
        return Finding(group, change.word, DANGER, measured, meaning, advice)
    if worst_s > change.warning_after_s:
        return Finding(group, change.word, WARNING, measured, change.meaning, change.advice)
    if worst_s > change.note_after_s:
        return Finding(group, change.word, NOTE, measured, change.meaning, change.advice)
    return Finding(group, change.word, FINE, measured)


def _shown(seconds: float) -> str:
    if seconds == _WRONG:
        return "wrong"
    if seconds == _NEVER:
        return f"not within {LOOK_S:g} s"
    return "at once" if seconds < AT_ONCE_S else f"after {seconds:.2f} s"
