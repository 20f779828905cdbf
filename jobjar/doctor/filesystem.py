"""Which file system a path lies on, by the kernel's table of mounts, and which of its options hurt a jar.

Reads what shared_disk/mounts.py reads; writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.shared_disk.mounts import Mount, find_mount, is_local_mount

# With a longer cache, heartbeats and directories of other nodes are seen later than people expect.
LONG_ATTRIBUTE_CACHE_S = 60

# File systems with known problems: verdict, meaning, advice.
_MEASURE = "run `jobjar doctor --peer` on two nodes at once: it measures what this mount really does"
_IN_MEMORY = "it is memory: when this node stops or starts again, every job and all history are gone"
_KNOWN: dict[str, tuple[str, str, str]] = {
    "tmpfs": (DANGER, _IN_MEMORY, "make the jar on a disk"),
    "ramfs": (DANGER, _IN_MEMORY, "make the jar on a disk"),
    "overlay": (
        WARNING,
        "an overlay is usually a container's own layer, which goes with the container, and no other node sees it",
        "put the jar on a volume or a mounted disk",
    ),
    "fuse.sshfs": (
        WARNING,
        "other clients' files are seen seconds late, and there are no locks between clients (none are needed)",
        _MEASURE + "; prefer NFS or another real network disk",
    ),
    "cifs": (WARNING, "run bits, owners, links and the case of names depend on the server and on options", _MEASURE),
    "smb3": (WARNING, "run bits, owners, links and the case of names depend on the server and on options", _MEASURE),
    "9p": (WARNING, "what two clients see of each other depends on its cache option", _MEASURE),
    "virtiofs": (NOTE, "what two guests see of each other depends on its cache option", _MEASURE),
    "vboxsf": (WARNING, "it has no run bits and no links of its own", "make the jar on another disk"),
    "vfat": (
        DANGER,
        "it has no run bits, no owners and no links: there can be no jobs",
        "make the jar on another disk",
    ),
    "exfat": (
        DANGER,
        "it has no run bits, no owners and no links: there can be no jobs",
        "make the jar on another disk",
    ),
}
# Network disks on which each race of renames, links, O_EXCL and mkdir was measured to have one winner.
_MEASURED = ("nfs", "nfs4", "fuse.mfs", "fuse.glusterfs")


def look_at_file_system(group: str, path: str) -> Iterator[Finding]:
    """The kind of disk under `path`, and its mount options."""
    mount = find_mount(path)
    if mount is None:
        yield Finding(group, "file system", NOTE, "unknown", "this system has no /proc/self/mountinfo", _MEASURE)
        return
    local = is_local_mount(mount)
    where = "local" if local else "network disk: each node keeps a ledger of its own"
    measured = f"{mount.kind} ({mount.source}) on {mount.point}, {where}"
    verdict, meaning, advice = _KNOWN.get(mount.kind, (FINE, "", ""))
    if not local and verdict == FINE and mount.kind not in _MEASURED:
        verdict, meaning, advice = NOTE, "not among the network disks that Job Jar was measured on", _MEASURE
    yield Finding(group, "file system", verdict, measured, meaning, advice)
    hurting = list(judge_options(group, mount))
    yield from hurting
    if not hurting:
        shown = ",".join(f"{name}={value}" if value else name for name, value in mount.options.items())
        yield Finding(group, "mount options", FINE, shown if len(shown) < 100 else shown[:99] + "…")


def judge_options(group: str, mount: Mount) -> Iterator[Finding]:
    """Each mount option that hurts a jar."""

    def finding(verdict: str, option: str, meaning: str, advice: str = "") -> Finding:
        return Finding(group, "mount options", verdict, f"{option} on {mount.point}", meaning, advice)

    options = mount.options
    remount = f"mount -o remount,{{}} {mount.point}"
    if "ro" in options:
        yield finding(DANGER, "ro", "read-only: no job can be submitted, claimed or completed", remount.format("rw"))
    if "noexec" in options:
        yield finding(
            DANGER, "noexec", "no job can be run from here: each would fail with status 126", remount.format("exec")
        )
    for name in ("sync", "dirsync"):
        if name in options:
            yield finding(
                NOTE, name, "right, but every move waits for the disk", "leave it out: moves are safe without"
            )
    if options.get("barrier") == "0" or "nobarrier" in options:
        yield finding(
            WARNING, "nobarrier", "a power failure may damage the file system", "leave it out, but with a battery"
        )
    if "volatile" in options:
        yield finding(WARNING, "volatile", "nothing is made durable: a crash of the node may lose jobs", "leave it out")
    if mount.is_nfs:
        yield from _judge_nfs(finding, options)
    elif mount.kind in ("cifs", "smb3"):
        if "noserverino" in options:
            yield finding(
                WARNING,
                "noserverino",
                "file numbers are made up here: a moved file may not be known again",
                "serverino",
            )
        if options.get("cache") == "loose":
            yield finding(WARNING, "cache=loose", "other nodes' changes may not be seen", "mount with cache=strict")
    elif mount.kind.startswith("fuse") and "allow_other" not in options:
        yield finding(
            NOTE, "no allow_other", "only the user who mounted it sees it", "mount with allow_other, if others do"
        )
    elif mount.kind == "9p" and options.get("cache") in ("loose", "fscache", "mmap"):
        yield finding(
            WARNING, f"cache={options['cache']}", "other nodes' changes may not be seen", "mount with cache=none"
        )


def _judge_nfs(finding: Callable[..., Finding], options: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("soft", "softerr"):
        if name in options:
            yield finding(
                WARNING,
                name,
                "while the server is away, writes end with an error, and what was written before may be lost",
                "mount with hard: workers wait for the server, and go on",
            )
    version = options.get("vers", "")
    if version.startswith("2"):
        yield finding(
            DANGER, "vers=2", "O_EXCL is not exclusive there: two nodes may take one name", "mount with vers=4.2"
        )
    elif version.startswith("3"):
        yield finding(
            NOTE, "vers=3", "fine, but a repeated request is answered with an error more often", "mount with vers=4.2"
        )
    for name in ("acregmax", "acdirmax", "actimeo"):
        value = options.get(name, "")
        if value.isdigit() and int(value) > LONG_ATTRIBUTE_CACHE_S:
            yield finding(
                WARNING,
                f"{name}={value}",
                f"heartbeats and directories of other nodes are seen up to {value} s late",
                f"mount with {name}={LONG_ATTRIBUTE_CACHE_S} or less; with leases, keep JJ_LEASE_TIME well above it",
            )
    if "noac" in options:
        yield finding(NOTE, "noac", "right, but slow: every look asks the server", "leave it out: it is not needed")
    # nolock and local_lock do not matter: no lock is taken on a network disk.
