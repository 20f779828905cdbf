"""How soon an idle worker starts a job that is submitted on its node, and what the worker costs while it is idle. All settings
are at their defaults."""

from __future__ import annotations

import os
import random
import statistics
import time
from pathlib import Path

import psutil
from measure import make_parser, parse, print_table, running_workers, shown, spread, temporary_jar, verdict

import jobjar

WANTED_MS, WANTED_PERCENT, WANTED_MIB = 50.0, 0.2, 45.0
SETTLE_S = 2.0
LOOK_INTERVAL_S = 0.01


def measure_latencies(home: Path, jobs: int) -> tuple[list[float], list[float]]:
    """Milliseconds until a job's first action: from the call of submit_job, and from its return."""
    from_call, from_return = [], []
    for number in range(jobs):
        stamp = home.parent / f"stamp.{number}"
        called_at = time.time()
        jobjar.submit_job(f"date +%s.%N > {stamp}")
        returned_at = time.time()
        while len(os.listdir(home / "completed")) <= number:
            time.sleep(LOOK_INTERVAL_S)
        started_at = float(stamp.read_text())
        from_call.append((started_at - called_at) * 1000)
        from_return.append((started_at - returned_at) * 1000)
        time.sleep(random.uniform(0.1, 0.3))  # let the worker fall asleep again
    return from_call, from_return


def measure_idle(process: psutil.Process, seconds: float) -> float:
    """The share of a core, in percent, that an idle worker uses."""
    time.sleep(SETTLE_S)
    before_s, started = used_cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return (used_cpu_s(process) - before_s) / (time.monotonic() - started) * 100


def used_cpu_s(process: psutil.Process) -> float:
    """The processor time of a worker, which has one thread. The scheduler's figure is finer; it is used if there is one."""
    try:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)


def describe_memory(process: psutil.Process) -> list[tuple[str, float]]:
    """Resident memory in MiB. If the system reports them, also PSS (shared memory counted in part) and USS (not counted)."""
    memory = process.memory_full_info() if hasattr(process, "memory_full_info") else process.memory_info()
    return [(name, getattr(memory, name) / 2**20) for name in ("rss", "pss", "uss") if hasattr(memory, name)]


def main() -> None:
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--jobs", type=int, default=40, help="jobs submitted one after the other (default: 40)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch the idle worker (default: 20)")
    options = parse(parser)
    from_call: list[float] = []
    from_return: list[float] = []
    shares: list[float] = []
    memory: list[tuple[str, float]] = []
    for _ in range(options.rounds):
        with temporary_jar(options.directory) as home, running_workers(home, 1) as workers:
            process = psutil.Process(workers[0].pid)
            time.sleep(SETTLE_S)
            called, returned = measure_latencies(home, options.jobs)
            from_call += called
            from_return += returned
            shares.append(measure_idle(process, options.idle))
            memory = describe_memory(process)
    share = statistics.median(shares)
    rows = [
        (
            "submit_job called to job started",
            spread(from_call, "ms"),
            verdict(statistics.median(from_call), WANTED_MS, False),
        ),
        ("submit_job returned to job started", spread(from_return, "ms"), ""),
        ("idle worker, share of a core", f"{share:.3f} %", verdict(share, WANTED_PERCENT, False)),
    ]
    for name, mib in memory:
        wanted = verdict(mib, WANTED_MIB, False) if name == "rss" else ""
        rows.append((f"idle worker, {name.upper()}", f"{shown(mib)} MiB", wanted))
    print_table(("", "median (least to most)", "wanted"), rows)


if __name__ == "__main__":
    main()
