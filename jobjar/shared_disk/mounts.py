"""Find what is mounted where, and which disks are local. Reads /proc/self/mountinfo (proc(5)); writes nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "zfs", "f2fs", "jfs", "bcachefs")
)
_MOUNTINFO = "/proc/self/mountinfo"


class Mount(NamedTuple):
    """One row of the table. `options` contains the options of the mount and of the file system."""

    mount_id: str
    point: str
    kind: str
    source: str
    options: Mapping[str, str]

    @property
    def is_nfs(self) -> bool:
        return self.kind in ("nfs", "nfs4")


def _plain(field: str) -> str:
    """Decode the octal escapes in a field of the table."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def parse_mounts(text: str) -> list[Mount]:
    """Parse the rows of a mountinfo table."""
    mounts = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if not dash or len(fields) < 6 or len(rest) < 2:
            continue
        words = fields[5].split(",") + (rest[2].split(",") if len(rest) > 2 else [])
        options = {name: value for name, _, value in (word.partition("=") for word in words)}
        # The file system's own "rw" is another option than "ro" of this mount, and does not hide it.
        kind, source = rest[0], _plain(rest[1])
        if kind == "fuse" and "#" in source:  # MooseFS and others: mfs#10.0.0.1:9421
            kind = f"fuse.{source.partition('#')[0]}"
        mounts.append(Mount(fields[0], _plain(fields[4]), kind, source, options))
    return mounts


def read_mounts() -> list[Mount]:
    """Read the mounts that this process sees. Raises OSError if the kernel has no such table."""
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return parse_mounts(file.read())


def find_mount(path: str, mounts: Iterable[Mount] | None = None) -> Mount | None:
    """Find the mount that `path` lies on, after following links; None if the kernel has no such table."""
    if mounts is None:
        try:
            mounts = read_mounts()
        except OSError:
            return None
    return mount_of(os.path.realpath(path), mounts)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Find the mount of a path without links: the last one with the longest mount point."""
    found: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def mounts_below(path: str) -> list[str]:
    """List the mount points at or below a directory, as paths relative to it (`.`: the directory itself). The mounts are not
    accessed, since a server may be gone. The list is empty if the kernel has no such table."""
    above, name = os.path.split(path)
    path = f"{os.path.realpath(above)}/{name}"
    try:
        mounts = read_mounts()
    except OSError:
        return []
    inside = [mount.point for mount in mounts if mount.point == path or mount.point.startswith(f"{path}/")]
    return sorted({os.path.relpath(point, path) for point in inside})


def is_local(path: str) -> bool:
    """Whether `path` is on a disk of this host. Unknown file systems count as network disks. Raises OSError (`read_mounts`)."""
    return sys.platform != "linux" or is_local_mount(find_mount(path, read_mounts()))


def is_local_mount(mount: Mount | None) -> bool:
    """`is_local` for the mount that a path lies on."""
    # Writes to an overlay go to its upper layer, which overlayfs does not allow to be a network disk.
    return mount is not None and (mount.kind in LOCAL_FILE_SYSTEMS or mount.kind == "overlay")
