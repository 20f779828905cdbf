"""Calls of Python functions a second: 10,000 calls of `lambda: None` over two workers by `jobjar.Executor`, compared with
Python's own ProcessPoolExecutor with two processes, and how long one call takes there and back."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from measure import make_parser, parse, print_table, temporary_jar

import jobjar

WANTED = 1000
BIN = Path(sys.executable).parent


@contextlib.contextmanager
def workers(count: int) -> Iterator[None]:
    """Workers of the library's jar, until the end."""
    started = [
        subprocess.Popen(
            [BIN / "start_worker", "--foreground"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"JJ_HOME": jobjar.get_home()},
        )
        for _ in range(count)
    ]
    try:
        for worker in started:
            assert worker.stdout is not None and worker.stdout.readline()
        yield
    finally:
        jobjar.stop_all()
        for worker in started:
            worker.communicate(timeout=60)


def nothing() -> None:
    pass


def measure_calls(executor: Executor, calls: int, is_local: bool) -> float:
    """Calls a second, from the first submission to the last result."""
    started = time.perf_counter()
    futures = [executor.submit(nothing if is_local else (lambda: None)) for _ in range(calls)]
    for future in futures:
        future.result()
    return calls / (time.perf_counter() - started)


def measure_one(executor: Executor) -> float:
    """Milliseconds from the submission of a call to its result."""
    started = time.perf_counter()
    executor.submit(nothing).result()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--calls", type=int, default=10_000, help="calls in each round (default: 10000)")
    options = parse(parser)
    ours, own, single = [], [], []
    for _ in range(options.rounds):
        with temporary_jar(options.directory), workers(2), jobjar.Executor(2) as executor:
            ours.append(measure_calls(executor, options.calls, is_local=False))
            single += [measure_one(executor) for _ in range(5)]
        with ProcessPoolExecutor(2) as executor:
            own.append(measure_calls(executor, options.calls, is_local=True))
    print_table(
        ["what", "measured"],
        [
            [f"{options.calls} calls of lambda: None, 2 workers", f"{statistics.median(ours):.0f} calls/s"],
            ["the same by ProcessPoolExecutor(2)", f"{statistics.median(own):.0f} calls/s"],
            ["one call, there and back", f"{statistics.median(single):.0f} ms"],
        ],
    )
    sys.exit(statistics.median(ours) < WANTED)


if __name__ == "__main__":
    main()
