"""Free space and inodes where Job Jar writes: the disks of the jar, the workers, the ledger home, and /tmp. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.units import format_bytes

GROUP = "space"
MIB, GIB = 1 << 20, 1 << 30
# (free bytes, share of the disk). The verdict applies below both of them, or below the floor alone.
SPACE_DANGER = (1 * GIB, 0.01)
SPACE_DANGER_FLOOR = 100 * MIB
SPACE_WARNING = (20 * GIB, 0.05)
SPACE_WARNING_FLOOR = 1 * GIB
INODES_DANGER = (10_000, 0.01)
INODES_DANGER_FLOOR = 1_000
INODES_WARNING = (100_000, 0.05)
INODES_WARNING_FLOOR = 10_000


def look_at_space(paths: dict[str, str]) -> Iterator[Finding]:
    """Free space and inodes of each disk among `paths` (purpose: path). Each disk is reported once."""
    disks: dict[int, tuple[list[str], str]] = {}
    for purpose, path in paths.items():
        try:
            disks.setdefault(os.stat(path).st_dev, ([], path))[0].append(purpose)
        except FileNotFoundError:
            continue
    for purposes, path in disks.values():
        status = os.statvfs(path)
        what = ", ".join(purposes)
        holds_jobs = "jar" in purposes or "workers" in purposes
        yield judge_space(what, path, status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, holds_jobs)
        if status.f_files:  # some file systems (btrfs) do not count inodes
            yield judge_inodes(what, path, status.f_favail, status.f_files, holds_jobs)


def judge_space(what: str, path: str, free: int, total: int, holds_jobs: bool = True) -> Finding:
    share = free / total if total else 0.0
    measured = f"{format_bytes(free)} free of {format_bytes(total)} ({share:.0%}) for {what}"
    if free < SPACE_DANGER_FLOOR or (free < SPACE_DANGER[0] and share < SPACE_DANGER[1]):
        return _scarce("space", holds_jobs, DANGER, measured, path)
    if free < SPACE_WARNING_FLOOR or (free < SPACE_WARNING[0] and share < SPACE_WARNING[1]):
        return _scarce("space", holds_jobs, WARNING, measured, path)
    return Finding(GROUP, "space", FINE, measured)


def judge_inodes(what: str, path: str, free: int, total: int, holds_jobs: bool = True) -> Finding:
    share = free / total
    measured = f"{free:,} inodes free of {total:,} ({share:.0%}) for {what}"
    if free < INODES_DANGER_FLOOR or (free < INODES_DANGER[0] and share < INODES_DANGER[1]):
        return _scarce("inodes", holds_jobs, DANGER, measured, path)
    if free < INODES_WARNING_FLOOR or (free < INODES_WARNING[0] and share < INODES_WARNING[1]):
        return _scarce("inodes", holds_jobs, WARNING, measured, path)
    return Finding(GROUP, "inodes", FINE, measured)


def _scarce(check: str, holds_jobs: bool, verdict: str, measured: str, path: str) -> Finding:
    if holds_jobs:
        meaning = "when it is used up, submissions fail and workers wait with the end of their jobs; no job is lost"
    else:
        meaning = "when it is used up, this node's ledger and jobs' temporary files cannot grow; no job is lost"
        verdict = WARNING if verdict == DANGER else NOTE
    return Finding(GROUP, check, verdict, measured, meaning, f"make room on the disk of {path}")
