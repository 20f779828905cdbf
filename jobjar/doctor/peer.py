"""Two doctors on two nodes compare their nodes, and measure what their common disk does between them.

Writes only under `$JJ_HOME/doctor/pair`, which is removed afterwards, even if the peer is killed midway.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Any

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.doctor.meeting import FIRST, Meeting, Message, PeerFailed, meet, take_away, wait_for, write_file
from jobjar.doctor.probe import clock_offset, judge_clock
from jobjar.doctor.races import run_races
from jobjar.doctor.staleness import measure_staleness
from jobjar.errors import JarError
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.ledger.jar_id import read_jar_id
from jobjar.liveness import boot_id
from jobjar.shared_disk.regular import read_regular
from jobjar.units import format_seconds
from jobjar.version import VERSION

__all__ = ["PeerFailed", "examine_pair"]


def examine_pair(jar: Jar, timeout_s: float, log: Callable[[str], None]) -> list[Finding]:
    """Meet a peer and return the findings of the pair. Both doctors return the same measurements.

    Raises PeerFailed if no peer comes, or if it goes away.
    """
    findings: list[Finding] = []
    meeting: Meeting | None = None
    try:
        meeting = meet(jar.layout, timeout_s, log)
        me = describe_self(jar, meeting)
        peer = meeting.swap("who", **me)
        group = f"pair with {peer['node']}"
        log(f"measuring with {peer['node']}")
        findings += compare_nodes(group, me, peer)
        findings.append(look_at_owner(group, meeting, peer))
        findings += run_races(meeting, group)
        findings += measure_staleness(meeting, group, jar.settings.lease_time_s)
        findings += look_at_locks(meeting, group)
    except OSError as error:
        if meeting is not None:
            take_away(meeting.path)
        where = f"{error.filename}: " if error.filename else ""
        raise PeerFailed(
            reason=f"the pair could not be measured: {where}{error.strerror or error}. Run it again on both nodes"
        ) from error
    except BaseException:
        if meeting is not None:
            take_away(meeting.path)
        raise
    meeting.end()
    return findings


def describe_self(jar: Jar, meeting: Meeting) -> Message:
    """The facts about this node that the peer needs."""
    offset_s, doubt_s = clock_offset(f"{meeting.path}/clock.{meeting.side}")
    write_file(f"{meeting.path}/owner.{meeting.side}", b"")
    return {
        "node": node_name(),
        "boot_id": boot_id(),
        "pid_namespace": _pid_namespace(),
        "uid": os.geteuid(),
        "login": login(),
        "version": VERSION,
        "home": jar.layout.home,
        "jar_id": read_jar_id(jar.layout),
        "writer": _writer(jar),
        "clock_offset_s": offset_s,
        "clock_doubt_s": doubt_s,
    }


def _writer(jar: Jar) -> str:
    """The name of the journal that this node's ledger home writes; empty if there is none yet."""
    try:
        return read_regular(jar.ledger_home.writer_file).decode(errors="replace").strip()
    except (OSError, JarError):
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def compare_nodes(group: str, me: Message, peer: Message) -> Iterator[Finding]:
    """Compare two descriptions, item by item."""
    yield compare_names(group, me, peer)
    if me["jar_id"] == peer["jar_id"]:
        yield Finding(group, "jar", FINE, f"both see the jar {me['jar_id']}")
    else:
        meaning = "the nodes see different files in ledger/: they would keep two records of the same jobs"
        yield Finding(
            group, "jar", DANGER, f"{me['jar_id']} here, {peer['jar_id']} there", meaning, "look at the mounts"
        )
    yield compare_ledger_homes(group, me, peer)
    same_path = me["home"] == peer["home"]
    measured = me["home"] if same_path else f"{me['home']} here, {peer['home']} there"
    if same_path:
        yield Finding(group, "mount path", FINE, measured)
    else:
        meaning = "fine for Job Jar; jobs that name files by their path may want one path on every node"
        yield Finding(group, "mount path", NOTE, measured, meaning, "mount it at one path, or name files by $JJ_HOME")
    if me["version"] == peer["version"]:
        yield Finding(group, "version", FINE, f"both {me['version']}")
    else:
        measured = f"{me['version']} here, {peer['version']} there"
        meaning = "entries that the older one does not know are passed over by it"
        yield Finding(group, "version", WARNING, measured, meaning, "install one version on every node")
    skew_s = me["clock_offset_s"] - peer["clock_offset_s"]
    doubt_s = me["clock_doubt_s"] + peer["clock_doubt_s"]
    measured = f"{format_seconds(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} the peer, by the disk's clock"
    if abs(skew_s) <= doubt_s:
        measured = f"the nodes agree to {doubt_s * 1000:.0f} ms, by the disk's clock"
    yield Finding(group, "clocks", *judge_clock(skew_s, measured))


def compare_names(group: str, me: Message, peer: Message) -> Finding:
    check = "host names"
    if me["node"] != peer["node"]:
        return Finding(group, check, FINE, f"{me['node']} here, {peer['node']} there")
    same_boot = me["boot_id"] == peer["boot_id"]
    if same_boot and me["pid_namespace"] == peer["pid_namespace"]:
        meaning = "both doctors ran on one node, so nothing here tells of two nodes"
        return Finding(group, check, WARNING, f"{me['node']} twice", meaning, "run it on two nodes")
    if same_boot:
        meaning = (
            "neither takes the other's jobs; but they share a category, and `stop_worker` means the workers of both"
        )
        advice = "give each container a name of its own (docker --hostname, or JJ_NODE)"
        return Finding(
            group, check, WARNING, f"both are called {me['node']}: two containers of one machine", meaning, advice
        )
    meaning = "each takes the other's workers for its own dead ones and takes their jobs back while they run"
    advice = "give every node a name of its own (hostnamectl set-hostname), and start the workers again"
    return Finding(group, check, DANGER, f"both are called {me['node']}: two machines", meaning, advice)


def compare_ledger_homes(group: str, me: Message, peer: Message) -> Finding:
    """A ledger home belongs to the processes of one kernel, since SQLite's WAL and its lock are in that kernel's memory."""
    check = "ledger homes"
    if not me["writer"] or me["writer"] != peer["writer"]:
        return Finding(
            group, check, FINE, "each node has its own" if me["writer"] and peer["writer"] else "not yet made"
        )
    if me["boot_id"] == peer["boot_id"]:
        return Finding(group, check, FINE, "one for both, which are one machine")
    meaning = "two machines write one SQLite ledger and one journal: both will be damaged"
    advice = "unset JJ_LEDGER_HOME, or name a directory on a disk of each node's own"
    return Finding(group, check, DANGER, f"both nodes use the one that writes {me['writer']}", meaning, advice)


def look_at_owner(group: str, meeting: Meeting, peer: Message) -> Finding:
    """The owner of a file that the peer made, as this node sees it."""
    check = "users"
    name = f"owner.{meeting.other}"
    wait_for(lambda: name in os.listdir(meeting.path), meeting.timeout_s)
    seen = os.stat(f"{meeting.path}/{name}").st_uid
    whose = f"{peer['login']} ({peer['uid']})"
    if seen != peer["uid"]:
        measured = f"a file of the peer's user {whose} belongs to user {seen} here"
        meaning = "users are mapped (root squash, idmapd, containers): files of one node may not be moved on the other"
        return Finding(group, check, WARNING, measured, meaning, "use one uid on every node, or correct the mapping")
    if peer["uid"] != os.geteuid():
        meaning = "jobs of one user are run as the other by the other's workers; that is what a group's jar is for"
        return Finding(group, check, NOTE, f"{os.geteuid()} here, {whose} there", meaning, "nothing, if it is meant")
    return Finding(group, check, FINE, f"{whose} on both nodes")


def look_at_locks(meeting: Meeting, group: str) -> Iterator[Finding]:
    """Whether a node sees the other's locks. This is for information only: Job Jar takes no lock on a network disk."""
    for word, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
        path = f"{meeting.path}/lock.{word}"
        if meeting.side == FIRST:
            write_file(path, b"x")
            with open(path, "r+b") as file:
                answer = _try_lock(lock, file.fileno())
                held = answer == "granted"
                meeting.swap(f"{word}-held", held=held, answer=answer)
                result = str(meeting.swap(f"{word}-tried")["answer"])
        else:
            held = bool(meeting.swap(f"{word}-held")["held"])
            name = os.path.basename(path)
            wait_for(lambda name=name: name in os.listdir(meeting.path), meeting.timeout_s)  # type: ignore[misc]
            with open(path, "r+b") as file:
                result = _try_lock(lock, file.fileno())
            meeting.swap(f"{word}-tried", answer=result)
        if not held:
            measured = "cannot be had on this disk"
        elif result == "refused":
            measured = "excludes the other node"
        else:
            measured = "does not exclude the other node" if result == "granted" else f"there: {result}"
        yield Finding(group, f"{word} locks", FINE, f"{measured} (for information: nothing depends on it)")


def _try_lock(lock: Callable[[int, int], Any], descriptor: int) -> str:
    try:
        lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "granted"
    except (BlockingIOError, PermissionError):
        return "refused"
    except OSError as error:
        return os.strerror(error.errno or 0)
