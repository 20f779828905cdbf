"""The storm: thousands of jobs, people who steer them, workers on several nodes, and faults at random moments; then all is
healed and judged.

    python -m tests.faults.storm --jobs 5000 --faults 500 [--seed N] [--homes own|jar] [--result FILE]

The plan (which faults, in which order, how long between them) follows from the seed, which is printed first. All of it
runs in namespaces of its own (process ids, mounts): when its first process is gone, nothing is left. Exit status: 0 the
promise was kept; 1 it was not, and why; 77 this host cannot run it, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jobjar.create import create_jar
from jobjar.layout import Layout
from tests.faults.arrays import Arrays
from tests.faults.faults import FAULTS, make_plan
from tests.faults.nodes import Node
from tests.faults.steerer import Steerer
from tests.faults.submitter import Submitter

CANNOT_RUN = 77
NODES = ("rain", "snow", "hail")
WORKERS = {"rain": 3, "snow": 3, "hail": 2}
CRON_TIME_S = 0.7
LEASE_TIME_S = 2.0
# Before each fault the storm waits so long at most for so many jobs at most to wait.
_MOST_PATIENCE_S = 0.7
_MOST_WAITING = 60
_FAULTS_AN_ARRAY = 10  # an array is submitted once in so many faults
_INSIDE = "--inside"


class Storm:
    """One storm. `shared`: all nodes use the ledger home in the jar itself, as the processes of one node do."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.seed: int = options.seed
        self.jobs: int = options.jobs
        self.large_array: int = options.tasks
        self.gap_s: float = options.gap
        self.lock_time_s: float = options.lock_time
        self.shared = options.homes == "jar"
        self.directory = directory
        self.lease_time_s = LEASE_TIME_S
        self.plan = make_plan(random.Random(self.seed), options.faults, self.shared)
        self.jar_disk = directory / "disk"
        self.home_disk = directory / "local"
        self.log = directory / "log"
        self.layout = Layout(str(self.jar_disk / "jar"))
        self.node_names = NODES
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.notes: Counter[str] = Counter()
        self.watches = 0  # how often a recovery watched leases
        self.stopped: set[int] = set()
        self.frozen: set[str] = set()
        self.locked: set[str] = set()
        self.read_only: set[str] = set()
        self.nodes: list[Node] = []
        self.submitter = Submitter(self, self.seed)
        self.steerer = Steerer(self, self.seed + 2)
        self.arrays = Arrays(self, self.seed + 3)
        self._heals: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._is_over = threading.Event()
        self._started = time.monotonic()

    # For the faults

    def later(self, seconds: float, heal: Callable[[], object]) -> None:
        """Do `heal` in some time, or when the storm is over."""
        heapq.heappush(self._heals, (time.monotonic() + seconds, next(self._numbers), heal))

    def spawn(self, action: Callable[[], object]) -> None:
        thread = threading.Thread(target=action, daemon=True)
        self._threads.append(thread)
        thread.start()

    def complain(self, line: str) -> None:
        self.complaints.append(line)
        print(f"!!! {line}", flush=True)

    def note(self, line: str) -> None:
        """What is to be expected, counted."""
        self.notes[f"{line.partition(chr(58))[0]}: … {line[-110:]}"] += 1

    def ledger_home(self, node: Node) -> Path:
        return Path(self.layout.ledger) if self.shared else node.ledger_home

    def ledger_homes(self) -> list[Path]:
        return [Path(self.layout.ledger)] if self.shared else [node.ledger_home for node in self.nodes]

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} {line}", flush=True)

    # The storm

    def prepare(self) -> None:
        """Disks, jar and nodes."""
        kind = make_disk(self.jar_disk, "192M")
        make_disk(self.home_disk, "96M")
        create_jar(self.layout.home)
        self.log.touch()
        self.arrays.prepare()
        for name in NODES:
            environment = {
                **{key: value for key, value in os.environ.items() if not key.startswith("JJ_")},
                "JJ_HOME": self.layout.home,
                "JJ_PAUSE_TIME": "1",
                "JJ_POLL_TIME": "0.5",
                "JJ_GRACE_TIME": "1",
                "JJ_EXIT_ON_FAILURE": "no",
                "JJ_HEARTBEAT_TIME": "0.5",
                "JJ_LEASE_TIME": f"{self.lease_time_s:g}",
                "JJ_CRASH_LIMIT": "50",
                "JJ_MAX_WORKERS": str(WORKERS[name]),
                "JJ_CATEGORIES": "SLOW OTHER",
                "HOME": str(self.directory),
                "TMPDIR": str(self.directory),
            }
            home = self.home_disk / name
            if not self.shared:
                environment["JJ_LEDGER_HOME"] = str(home)
            node = Node(name, self.layout, environment, home)
            node.complaints = self.complaints
            node.boot()
            self.nodes.append(node)
        self.say(f"a jar on {kind}, {len(NODES)} nodes, {sum(WORKERS.values())} workers")

    def rage(self) -> None:
        """Faults, one after the other, while jobs are submitted and run."""
        for node in self.nodes:
            self.spawn(partial(self._be_cron, node, "check_workers"))
            # Apart: while it watches a lease, which takes at least as long as that, workers go on being started.
            self.spawn(partial(self._be_cron, node, "recover_jobs"))
        self.submitter.start()
        self.steerer.start()
        waits = random.Random(self.seed + 1)
        for number, name in enumerate(self.plan, 1):
            self.submitter.wanted = self.jobs * number // len(self.plan)
            self._wait(waits.uniform(0.2, 1.8) * self.gap_s)
            self._wait_for_jobs()
            rng = random.Random(f"{self.seed}-{number}")
            tries = 0
            while not FAULTS[name].harm(self, rng):
                # There is nothing to harm in this way just now: a little later, and then another kind.
                self._wait(0.3)
                tries += 1
                if tries % 10 == 0:
                    self.note(f"no occasion for: {name}")
                    name = make_plan(rng, 1, self.shared)[0]
            self.counts[name] += 1
            if number == 1 and self.large_array:
                self.spawn(partial(self._submit_large, self.large_array))
            elif number % _FAULTS_AN_ARRAY == 1:
                self.spawn(self.arrays.submit)
            elif number % 4 == 0:
                self.spawn(self.arrays.steer)
            if number % 25 == 0:
                completed = len(os.listdir(self.layout.completed))
                self.say(f"{number} faults, {len(self.submitter.submitted)} submitted, {completed} completed")

    def _submit_large(self, tasks: int) -> None:
        """An array of so many tasks, as soon as a node takes it, and one that follows its first tenth."""
        for count in (tasks, tasks // 10):
            before = len(self.arrays.submitted)
            while len(self.arrays.submitted) == before and not self._is_over.wait(0.5):
                self.arrays.submit(count)

    def _wait_for_jobs(self) -> None:
        """Let the workers come after a little, so that the faults meet all of the jobs and not only the first."""
        until = time.monotonic() + _MOST_PATIENCE_S
        while time.monotonic() < until:
            waiting = len(self.submitter.submitted) - len(os.listdir(self.layout.completed))
            if waiting <= _MOST_WAITING:
                return
            self._wait(0.1)

    def _wait(self, seconds: float) -> None:
        """Heal what is due meanwhile."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if self._heals and self._heals[0][0] <= now:
                heapq.heappop(self._heals)[2]()
            elif now >= until:
                return
            else:
                time.sleep(max(0.0, min(until, self._heals[0][0] if self._heals else until) - now))

    def _be_cron(self, node: Node, program: str) -> None:
        """What cron does on a node: as many workers as are wanted; recovery, of dead workers and of leases that ran out."""
        while not self._is_over.is_set():
            with contextlib.suppress(OSError):
                said = node.run(program)
                if said is not None and said.status:
                    self.note(f"{program}: {said.errors.strip()}")
                if said is not None and "watching " in said.errors:
                    self.watches += 1
            self._is_over.wait(CRON_TIME_S)

    def stopped_time_s(self, rng: random.Random) -> float:
        """How long a worker, or a node, is stopped so that some lose their leases and some only nearly: it takes a lease
        until somebody begins to watch, and one more until he acts; who watches something else already comes to it later."""
        return self.lease_time_s * rng.uniform(1.5, 4.5)

    def heal(self, timeout_s: float) -> bool:
        """Undo every fault, submit what is left, and wait until all is completed; returns whether it is."""
        while self._heals:
            heapq.heappop(self._heals)[2]()
        for node in self.nodes:
            node.boot()
            node.thaw()
        self.steerer.finish()
        self.say("healed")
        deadline = time.monotonic() + timeout_s
        done = self.submitter.finish(timeout_s)
        while time.monotonic() < deadline and done:
            self.steerer.release_all(self.nodes[0])
            if self.arrays.let_go_on() and not self._left():
                break
            time.sleep(0.2)
        left = self._left()
        if not self.arrays.let_go_on():
            self.complain(f"arrays are not over within {timeout_s:g} s")
        if left or not done:
            self.complain(f"not completed within {timeout_s:g} s: {len(left)} jobs, such as {sorted(left)[:5]}")
        return not left and done

    def _left(self) -> set[str]:
        from jobjar.shared_disk.listing import list_jars

        held = {f"limbo/{name}" for name in self.submitter.submitted}
        return {place for place in list_jars(self.layout, False) if not place.startswith("limbo/") or place in held}

    def stop(self) -> None:
        """No more cron; workers leave; what they left is recovered."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(600)
        for node in self.nodes:
            node.run("stop_worker", "all")
        for node in self.nodes:
            node.wait_for_no_workers(120)
        for _ in range(2):
            for node in self.nodes:
                said = node.run("recover_jobs")
                assert said is not None
                if said.status:
                    self.complain(f"recover_jobs on {node.name} after all was healed: {said.errors}")


def make_disk(path: Path, size: str) -> str:
    """Mount a small disk of its own at `path`: ext4 in a file, or a tmpfs where there is no loop device."""
    path.mkdir()
    image = path.with_suffix(".image")
    subprocess.run(["truncate", "-s", size, image], check=True)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "60000", image], capture_output=True, check=False)
    if made.returncode == 0:
        mounted = subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, check=False)
        if mounted.returncode == 0:
            shutil.rmtree(path / "lost+found", ignore_errors=True)
            path.chmod(0o755)
            return "ext4"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", path], check=True)
    return "tmpfs"


def run_storm(options: argparse.Namespace) -> dict[str, Any]:
    """The whole of it; returns the result."""
    from tests.faults.verdict import judge

    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    started = time.monotonic()
    storm = Storm(directory, options)
    try:
        storm.prepare()
        storm.rage()
        is_done = storm.heal(options.deadline)
        storm.stop()
        result = judge(storm, is_done)
    finally:
        storm._is_over.set()
        for node in storm.nodes:
            node.kill()
        for disk in (storm.jar_disk, storm.home_disk):
            subprocess.run(["umount", "--lazy", str(disk)], capture_output=True, check=False)
        if options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    result["duration_s"] = round(time.monotonic() - started, 1)
    return result


def why_not_here() -> str | None:
    """Why this host cannot run a storm, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux (namespaces, mounts)"
    for program in ("unshare", "nsenter", "mount"):
        if shutil.which(program) is None:
            return f"needs {program} (util-linux)"
    probe = ["unshare", "--pid", "--uts", "--mount", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    made = subprocess.run(probe, capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else f"namespaces and mounts are refused here: {made.stderr.strip()}"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=0, help="an array of so many tasks besides (default: none)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of an earlier storm")
    parser.add_argument(
        "--homes", choices=("own", "jar"), default="own", help="a ledger home a node, or the jar's for all"
    )
    parser.add_argument("--gap", type=float, default=0.45, help="mean time between faults, in seconds")
    parser.add_argument("--lock-time", type=float, default=30.0, help="how long a ledger is locked, in seconds")
    parser.add_argument("--deadline", type=float, default=600.0, help="for the jobs that are left when all is healed")
    parser.add_argument("--result", type=Path, default=None, help="write the result there as JSON")
    parser.add_argument("--keep", action="store_true", default=None, help="keep the log and the copy of the journals")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def main(words: list[str]) -> int:
    options = parse(words)
    if not options.inside:
        reason = why_not_here()
        if reason is not None:
            print(f"no storm here: {reason}", flush=True)
            return CANNOT_RUN
        enter = ["unshare", "--pid", "--mount", "--propagation", "private", "--fork", "--mount-proc", "--kill-child"]
        me = [sys.executable, "-m", "tests.faults.storm", _INSIDE, "--seed", str(options.seed), *words]
        return subprocess.run([*enter, *me], check=False).returncode
    size = f"{options.jobs} jobs, {options.tasks} tasks, {options.faults} faults"
    print(f"storm: seed {options.seed}, {size}, homes: {options.homes}", flush=True)
    result = run_storm(options)
    if options.result is not None:
        options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "problems"}, indent=1))
    for problem in result["problems"]:
        print(f"!!! {problem}")
    print(
        f"storm: seed {options.seed}: " + ("the promise was NOT kept" if result["problems"] else "the promise was kept")
    )
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
