"""The faults of the storm: each a function with a name and a weight, which does its harm and says when it is to be undone.

Each gets the storm and a random generator of its own, and returns whether there was anything to harm. What it puts off
(`storm.later`) is what heals it; all of that is done before the storm is judged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobjar.shared_disk.listing import list_jar
from tests.faults.nodes import Node
from tests.rig import BIN

if TYPE_CHECKING:
    from tests.faults.storm import Storm

Harm = Callable[["Storm", random.Random], bool]


class Fault(NamedTuple):
    """A kind of fault. `weight`: how often, of all faults; `of_own_homes`: only where each node has a ledger home of its own."""

    name: str
    weight: float
    harm: Harm
    of_own_homes: bool


FAULTS: dict[str, Fault] = {}


def fault(name: str, weight: float, of_own_homes: bool = False) -> Callable[[Harm], Harm]:
    def add(harm: Harm) -> Harm:
        FAULTS[name] = Fault(name, weight, harm, of_own_homes)
        return harm

    return add


def make_plan(rng: random.Random, count: int, shared: bool = False) -> list[str]:
    """The kinds of `count` faults in a random order; every kind is among them if there are enough."""
    names = [name for name in FAULTS if not (shared and FAULTS[name].of_own_homes)]
    plan = names[:count] if count >= len(names) else rng.sample(names, count)
    plan += rng.choices(names, [FAULTS[name].weight for name in names], k=count - len(plan))
    rng.shuffle(plan)
    return plan


def _any_worker(storm: Storm, rng: random.Random, with_jobs: bool = False) -> tuple[Node, str, int] | None:
    workers = [
        (node, name, pid)
        for node in storm.nodes
        if node.name not in storm.frozen
        for name, pid in node.workers().items()
        if pid not in storm.stopped and not (with_jobs and not _holds_jobs(storm, name))
    ]
    return rng.choice(workers) if workers else None


def _holds_jobs(storm: Storm, worker: str) -> bool:
    return any(True for _ in list_jar(storm.layout.worker(worker).jobs, "workers/"))


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


@fault("worker killed (SIGKILL)", 30)
def kill_worker(storm: Storm, rng: random.Random) -> bool:
    found = _any_worker(storm, rng)
    return found is not None and _signal(found[2], signal.SIGKILL)


@fault("worker told to end in the midst of a job (SIGTERM)", 3)
def terminate_worker(storm: Storm, rng: random.Random) -> bool:
    found = _any_worker(storm, rng)
    return found is not None and _signal(found[2], signal.SIGTERM)


@fault("worker killed at once when it has been started", 4)
def kill_new_worker(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    program = node.start(str(BIN / "start_worker"), "--foreground", "OTHER")
    if program is None:
        return False
    _kill_in(node, program, rng.uniform(0.1, 1.2))
    return True


@fault("node killed whole and started again", 8)
def kill_node(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    if not node.is_up() or node.name in storm.frozen:
        return False
    node.kill()
    storm.later(rng.uniform(0.2, 3.0), node.boot)
    return True


@fault("node killed whole, its ledger home lost with it", 2, of_own_homes=True)
def kill_node_and_home(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    if not node.is_up() or node.name in storm.frozen or node.name in storm.locked:
        return False
    with node.power:
        node.kill()
        shutil.rmtree(node.ledger_home, ignore_errors=True)
    storm.later(rng.uniform(0.2, 2.0), node.boot)
    return True


@fault("worker stopped for longer than the lease, then continued", 12)
def stop_worker(storm: Storm, rng: random.Random) -> bool:
    found = _any_worker(storm, rng, with_jobs=True)  # one without has no lease to lose
    if found is None or not _signal(found[2], signal.SIGSTOP):
        return False
    pid = found[2]
    storm.stopped.add(pid)

    def continue_it() -> None:
        _signal(pid, signal.SIGCONT)
        storm.stopped.discard(pid)

    storm.later(storm.stopped_time_s(rng), continue_it)
    return True


@fault("node stopped for longer than the lease, then continued", 4)
def freeze_node(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    # Of a shared home's lock there is one for all nodes: whoever holds it stopped stops the others for a while.
    if not node.is_up() or node.name in storm.frozen:
        return False
    storm.frozen.add(node.name)
    node.freeze()

    def thaw() -> None:
        node.thaw()
        storm.frozen.discard(node.name)

    storm.later(storm.stopped_time_s(rng), thaw)
    return True


@fault("recover_jobs three times at once", 6)
def recover_at_once(storm: Storm, rng: random.Random) -> bool:
    nodes = [rng.choice(storm.nodes) for _ in range(3)]
    for node in nodes:
        storm.spawn(partial(node.run, "recover_jobs"))
    return any(node.is_up() for node in nodes)


@fault("recover_jobs killed", 6)
def kill_recovery(storm: Storm, rng: random.Random) -> bool:
    found = _any_worker(storm, rng)
    if found is None:
        return False
    _signal(found[2], signal.SIGKILL)  # so that there is something to recover
    program = found[0].start(str(BIN / "recover_jobs"))
    if program is None:
        return False
    _kill_in(found[0], program, rng.uniform(0.15, 1.0))
    return True


@fault("submission killed", 5)
def kill_submission(storm: Storm, rng: random.Random) -> bool:
    return storm.submitter.submit_and_kill(rng)


@fault("ledger deleted", 5)
def delete_ledger(storm: Storm, rng: random.Random) -> bool:
    suffixes = rng.choice((("",), ("", "-wal", "-shm"), ("-wal", "-shm", "")))
    return _remove(storm, [rng.choice(storm.ledger_homes())], suffixes)


@fault("every ledger and the snapshot deleted", 1.5)
def delete_all_ledgers(storm: Storm, rng: random.Random) -> bool:
    with contextlib.suppress(OSError):
        os.unlink(storm.layout.snapshot)
    return _remove(storm, storm.ledger_homes(), ("", "-wal", "-shm"))


def _remove(storm: Storm, homes: list[Path], suffixes: tuple[str, ...]) -> bool:
    removed = False
    for home in homes:
        for suffix in suffixes:
            with contextlib.suppress(OSError):
                os.unlink(f"{home}/ledger.db{suffix}")
                removed = True
    return removed


@fault("ledger overwritten with noise", 6)
def overwrite_ledger(storm: Storm, rng: random.Random) -> bool:
    return _overwrite(f"{rng.choice(storm.ledger_homes())}/ledger.db", rng)


@fault("snapshot overwritten with noise", 1, of_own_homes=True)
def overwrite_snapshot(storm: Storm, rng: random.Random) -> bool:
    return _overwrite(storm.layout.snapshot, rng)


def _overwrite(path: str, rng: random.Random) -> bool:
    try:
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            way = rng.choice(("all", "pages", "header", "cut off"))
            if way == "cut off":
                file.truncate(size // 2)
                return True
            for start in range(0, size, 4096):
                if way == "all" or (way == "pages" and rng.random() < 0.3) or (way == "header" and start == 0):
                    file.seek(start)
                    file.write(rng.randbytes(min(4096, size - start)))
            return size > 0
    except OSError:
        return False


@fault("ledger locked by somebody for 30 s", 1.5)
def lock_ledger(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    home = storm.ledger_home(node)
    key = "all" if storm.shared else node.name
    if key in storm.locked:
        return False
    try:
        descriptor = os.open(f"{home}/lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    storm.locked.add(key)

    def unlock() -> None:
        os.close(descriptor)
        storm.locked.discard(key)

    storm.later(storm.lock_time_s, unlock)
    return True


@fault("jar's disk full, then freed", 4)
def fill_jar(storm: Storm, rng: random.Random) -> bool:
    return _fill(storm, storm.jar_disk, rng)


@fault("disk of the ledger homes full, then freed", 3, of_own_homes=True)
def fill_homes(storm: Storm, rng: random.Random) -> bool:
    return _fill(storm, storm.home_disk, rng)


def _fill(storm: Storm, disk: Path, rng: random.Random) -> bool:
    filler = disk / "filler"
    if filler.exists():
        return False
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=1k", "oflag=append", "conv=notrunc"],
        stderr=subprocess.DEVNULL,
        check=False,
    )
    storm.later(rng.uniform(1.0, 4.0), lambda: filler.unlink(missing_ok=True))
    return True


@fault("jar read-only on one node, then writable again", 4)
def make_read_only(storm: Storm, rng: random.Random) -> bool:
    node = rng.choice(storm.nodes)
    if node.name in storm.frozen or node.name in storm.read_only:
        return False
    disk = storm.jar_disk
    if not node.is_up() or not node.shell_as_root(f"mount --bind {disk} {disk} && mount -o remount,ro,bind {disk}"):
        return False
    storm.read_only.add(node.name)
    boots = node.boots

    def make_writable() -> None:
        if node.boots == boots:  # otherwise the node was killed meanwhile, and its mounts with it
            node.shell_as_root(f"umount --lazy {disk}")
        storm.read_only.discard(node.name)

    storm.later(rng.uniform(1.0, 4.0), make_writable)
    return True


@fault("jar's disk does not answer for a second", 2)
def hang_disk(storm: Storm, rng: random.Random) -> bool:
    if subprocess.run(["fsfreeze", "--freeze", str(storm.jar_disk)], capture_output=True, check=False).returncode:
        return False
    time.sleep(rng.uniform(0.3, 1.2))
    subprocess.run(["fsfreeze", "--unfreeze", str(storm.jar_disk)], check=True)
    return True


@fault("all workers paused, then unpaused", 1.5)
def pause_all(storm: Storm, rng: random.Random) -> bool:
    path = Path(storm.layout.pause_all_file)
    with contextlib.suppress(OSError):
        path.touch()
        storm.later(rng.uniform(0.5, 2.0), lambda: path.unlink(missing_ok=True))
        return True
    return False


@fault("worker stopped by its STOP file", 2)
def stop_by_file(storm: Storm, rng: random.Random) -> bool:
    found = _any_worker(storm, rng)
    if found is None:
        return False
    with contextlib.suppress(OSError):
        Path(storm.layout.worker(found[1]).stop_file).touch()
        return True
    return False


@fault("running job killed on request", 2)
def kill_job(storm: Storm, rng: random.Random) -> bool:
    links = [name for name in os.listdir(storm.layout.claimed) if not name.startswith(".")]
    if not links:
        return False
    said = rng.choice(storm.nodes).run("jobjar", "kill", rng.choice(links))
    return said is not None and said.status == 0


def _kill_in(node: Node, program: subprocess.Popen[str], seconds: float) -> None:
    """Let a program run for a while and kill it, whatever it is doing."""
    time.sleep(seconds)
    for pid in node.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            if int(file.read().rpartition(b") ")[2].split()[1]) == program.pid:
                os.kill(pid, signal.SIGKILL)
    node.finish(program, "a program that is killed")
