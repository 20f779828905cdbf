"""How many of the smallest jobs two hosts with a few workers each run in a second on a network disk, compared with the floor:
as many processes that do only the creates, renames and removals of such jobs, on the same two mounts.

Mounts MooseFS twice, in namespaces (root; `make packages`). A job needs three creates (its link in claimed/, its scratch
directory, its output file), two renames (to its worker, to completed) and the removal of the three. Both counts run from the
common start until the last job is done. The benchmark also prints the share of claim attempts that found the job gone.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from pathlib import Path
from subprocess import PIPE

from measure import (
    COMMAND,
    PROJECT,
    SCRIPT,
    alternate,
    make_directory,
    make_parser,
    median_ratio,
    parse,
    print_table,
    shown,
    spread,
    verdict,
)

sys.path.insert(0, str(PROJECT))

from tests.hosts.rigs.moosefs import MooseFS, why_no_moosefs
from tests.hosts.rigs.space import Running, Space

WANTED_RATIO = 0.5
WANTED_LOST = 0.2
BIN = Path(sys.executable).parent
LOOK_INTERVAL_S = 0.05
_CLAIMS = re.compile(r"claimed (\d+) jobs, and (\d+) times found one gone")

# One process of the floor: it makes its files, prints "ready", waits for the start, does the work of its jobs, and leaves.
FLOOR = """
import os, sys, time
directory, name, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(jobs):
    with open(f"{directory}/unclaimed/{name}.{number}", "w") as file:
        file.write(sys.argv[4])
for part in ("jobs", "scratch", "output"):
    os.makedirs(f"{directory}/{name}/{part}")
print("ready", flush=True)
sys.stdin.readline()
for number in range(jobs):
    job, own = f"{name}.{number}", f"{directory}/{name}"
    os.rename(f"{directory}/unclaimed/{job}", f"{own}/jobs/{job}")
    os.symlink(f"../{name}/jobs/{job}", f"{directory}/claimed/{job}")
    os.mkdir(f"{own}/scratch/{job}")
    os.close(os.open(f"{own}/output/{job}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.rename(f"{own}/jobs/{job}", f"{directory}/completed/{job}")
    os.unlink(f"{own}/output/{job}")
    os.rmdir(f"{own}/scratch/{job}")
    os.unlink(f"{directory}/claimed/{job}")
"""


class Bench:
    """The two hosts, and what was counted on them."""

    def __init__(self, directory: Path, jobs: int, workers: int) -> None:
        self.rig = MooseFS(directory)
        self.hosts = [self.rig.start_host("rain"), self.rig.start_host("snow")]
        self.directory = directory
        self.jobs = jobs
        self.workers = workers
        self.round = 0
        self.lost_shares: list[float] = []

    def environment(self, host: Space, home: str) -> dict[str, str]:
        own_home = f"{self.directory}/home-{host.name}-{self.round}"
        paths = {"JJ_HOME": home, "JJ_LEDGER_HOME": own_home, "HOME": str(self.directory)}
        return {**os.environ, **paths, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(self, host: Space, home: str, *words: str) -> None:
        process = host.start(*words, environment=self.environment(host, home))
        output, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"{words}: {output}{errors}")

    def measure_floor(self) -> float:
        """The rate of all processes together: bare operations for so many jobs a second."""
        self.round += 1
        directory = f"{self.rig.mount_point}/floor-{self.round}"
        self.hosts[0].run("mkdir", "-p", *(f"{directory}/{name}" for name in ("unclaimed", "claimed", "completed")))
        share = self.jobs // (self.workers * len(self.hosts))
        processes = []
        for host in self.hosts:
            for number in range(self.workers):
                words = [sys.executable, "-c", FLOOR, directory, f"{host.name}-{number}", str(share), SCRIPT]
                processes.append(host.start(*words, input=PIPE))
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        started = time.perf_counter()
        for process in processes:
            process.communicate("\n")
        return share * len(processes) / (time.perf_counter() - started)

    def measure_workers(self) -> float:
        """Jobs a second of all workers together."""
        self.round += 1
        home = f"{self.rig.mount_point}/jar-{self.round}"
        first, second = self.hosts
        self.run(first, home, "jobjar", "init", home)
        self.run(first, home, "touch", f"{home}/workers/PAUSE_ALL")
        for host in (first, second):
            code = f"import jobjar; jobjar.submit_jobs(['{COMMAND}'] * {self.jobs // 2})"
            self.run(host, home, sys.executable, "-c", code)
        workers = [
            (host.start("start_worker", "--foreground", environment=self.environment(host, home)))
            for host in (first, second)
            for _ in range(self.workers)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        completed = second.path(f"{home}/completed")
        started = time.perf_counter()
        first.path(f"{home}/workers/PAUSE_ALL").unlink()
        while len(os.listdir(completed)) < self.jobs // 2 * 2:
            time.sleep(LOOK_INTERVAL_S)
        rate = self.jobs // 2 * 2 / (time.perf_counter() - started)
        first.path(f"{home}/workers/STOP_ALL").touch()
        self.lost_shares.append(lost_share(workers))
        return rate

    def close(self) -> None:
        self.rig.close()


def lost_share(workers: list[Running]) -> float:
    """The share of claim attempts that found the job gone, as the workers report it at their end."""
    claimed = lost = 0
    for worker in workers:
        said = worker.communicate()[1]
        found = _CLAIMS.search(said)
        if found is None:
            raise SystemExit(f"a worker did not say what it claimed: {said[-500:]}")
        claimed += int(found.group(1))
        lost += int(found.group(2))
    return lost / (claimed + lost)


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs in each round (default: 2000)")
    parser.add_argument(
        "--workers", type=int, default=4, help="workers, and processes of the floor, a host (default: 4)"
    )
    options = parse(parser)
    reason = why_no_moosefs()
    if reason is not None:
        print(f"cannot run here: {reason}")
        return
    bench = Bench(make_directory(options.directory), options.jobs, options.workers)
    try:
        values = alternate(options.rounds, {"floor": bench.measure_floor, "workers": bench.measure_workers})
    finally:
        bench.close()
    ratio = median_ratio(values["workers"], values["floor"])
    lost = statistics.median(bench.lost_shares)
    print_table(
        ("", "a second", "of the floor", "wanted"),
        [
            (f"bare operations of a job, 2 x {options.workers} processes", spread(values["floor"]), "1", ""),
            (
                f"jobs, 2 x {options.workers} workers",
                spread(values["workers"]),
                f"{ratio:.3f}",
                verdict(ratio, WANTED_RATIO, True),
            ),
        ],
    )
    print(
        f"claim attempts that found the job gone: {shown(lost)} "
        f"({shown(min(bench.lost_shares))} to {shown(max(bench.lost_shares))}); {verdict(lost, WANTED_LOST, False)}"
    )


if __name__ == "__main__":
    main()
