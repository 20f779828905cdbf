"""Which disks are this host's own. Reads /proc/self/mountinfo (proc(5)); writes nothing."""

from __future__ import annotations

import os
import sys

LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "zfs", "f2fs", "jfs", "bcachefs")
)


def is_local(path: str) -> bool:
    """Whether the disk under `path` is this host's own. Unknown file systems count as network disks."""
    if sys.platform != "linux":
        return True
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return _is_local_in(os.path.realpath(path), lines.read().splitlines())


def _is_local_in(path: str, mountinfo: list[str]) -> bool:
    """`is_local` by the lines of a mountinfo table (proc(5)): the last of the longest mount points wins."""
    longest = -1
    file_system = ""
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        mount_point = before.split()[4].replace("\\040", " ").replace("\\011", "\t")
        inside = path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= longest:
            longest = len(mount_point)
            file_system = after.split()[0]
    # What is written to an overlay goes to its upper layer, and overlayfs refuses a network disk as that.
    return file_system in LOCAL_FILE_SYSTEMS or file_system == "overlay"
