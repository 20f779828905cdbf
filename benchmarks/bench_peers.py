"""How many tasks that do nothing other programs run in a second, beside tasks and jobs here: xargs, GNU Parallel, Task Spooler,
huey, jug, HyperQueue. All run the same script, in as many processes at once, in alternating rounds. A peer that is not installed
is named as absent; `make bench-peers` installs huey and jug, in a virtual environment of their own.

What is queued first is queued before the clock starts. xargs and GNU Parallel keep no queue, no history and no output by task.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_arrays import measure_tasks
from measure import (
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
from throughput import measure_floor, measure_workers

WANTED_OF_BEST = 1.5
PATIENCE_S = 600.0
LOOK_INTERVAL_S = 0.002
# Each job that waits in Task Spooler is a process.
_MOST_SPOOLED = 400

_HUEY = """
import os, subprocess
from huey import SqliteHuey
huey = SqliteHuey(filename={place!r} + "/queue.db", fsync=False)
done = os.open({place!r} + "/done", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
@huey.task()
def run(number):
    subprocess.run([{script!r}, str(number)], check=True)
    os.write(done, b".")
"""
_JUG = """
import os, subprocess
from jug import TaskGenerator
done = os.open({place!r} + "/done", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
@TaskGenerator
def run(number):
    subprocess.run([{script!r}, str(number)], check=True)
    os.write(done, b".")
for number in range({tasks}):
    run(number)
"""


class Peers:
    """The other programs, each as a function that returns tasks a second. `python` has huey and jug."""

    def __init__(self, directory: str, tasks: int, at_once: int, python: Path) -> None:
        self._directory, self._tasks, self._at_once, self._python = directory, tasks, at_once, python

    def _make_script(self) -> str:
        script = make_directory(self._directory) / "script"
        script.write_text(SCRIPT)
        script.chmod(0o700)
        return str(script)

    def _measure_stream(self, command: list[str]) -> float:
        numbers = "".join(f"{number}\n" for number in range(self._tasks))
        started = time.perf_counter()
        subprocess.run(command, input=numbers, text=True, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)
        return self._tasks / (time.perf_counter() - started)

    def xargs(self) -> float:
        return self._measure_stream(["xargs", f"-P{self._at_once}", "-n1", self._make_script()])

    def gnu_parallel(self) -> float:
        return self._measure_stream(["parallel", "--will-cite", f"-j{self._at_once}", self._make_script(), "{}"])

    def task_spooler(self) -> float:
        """The jobs are queued behind one that waits at a pipe."""
        script, tasks = self._make_script(), min(self._tasks, _MOST_SPOOLED)
        gate = f"{os.path.dirname(script)}/gate"
        os.mkfifo(gate)
        with tempfile.TemporaryDirectory(prefix="ts") as short:  # a socket's path is short
            environment = {**os.environ, "TS_SOCKET": f"{short}/s", "TMPDIR": short}

            def spool(*words: str) -> None:
                command = ["tsp", *words]
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)

            try:
                spool("-n", "sh", "-c", f"read line < {gate}")  # job 0
                for number in range(tasks):
                    spool("-n", script, str(number))
                Path(gate).write_text("go\n")
                started = time.perf_counter()
                spool("-S", str(self._at_once))
                for number in range(tasks - self._at_once, tasks):
                    spool("-w", str(number + 1))
                return tasks / (time.perf_counter() - started)
            finally:
                spool("-K")

    def huey(self) -> float:
        place = Path(self._make_script()).parent
        (place / "made.py").write_text(_HUEY.format(place=str(place), script=f"{place}/script"))
        fill = f"from made import run\nfor number in range({self._tasks}): run(number)"
        subprocess.run([self._python, "-c", fill], cwd=place, check=True, timeout=PATIENCE_S)
        consumer = [str(self._python.parent / "huey_consumer"), "made.huey", f"-w{self._at_once}", "-kprocess", "-q"]
        with _running([consumer], place):
            return self._measure_done(place / "done")

    def jug(self) -> float:
        place = Path(self._make_script()).parent
        (place / "jugfile.py").write_text(
            _JUG.format(place=str(place), script=f"{place}/script", tasks=self._tasks), encoding="utf-8"
        )
        with _running([[str(self._python.parent / "jug"), "execute"]] * self._at_once, place):
            return self._measure_done(place / "done")

    def _measure_done(self, done: Path) -> float:
        """Tasks a second from the first task's end to the last's: each adds a byte to a file."""
        first, at, until = 0.0, 0, time.perf_counter() + PATIENCE_S
        while time.perf_counter() < until:
            size = done.stat().st_size if done.exists() else 0
            if size and not first:
                first, at = time.perf_counter(), size
            if size >= self._tasks:
                return (size - at) / (time.perf_counter() - first)
            time.sleep(LOOK_INTERVAL_S)
        raise SystemExit(f"{done} has {done.stat().st_size} of {self._tasks} tasks after {PATIENCE_S:g} s")

    def hyperqueue(self) -> float:
        place = Path(self._make_script()).parent
        common = ["hq", "--server-dir", f"{place}/server"]
        with _running([[*common, "server", "start"]], place):
            _wait_for(lambda: any((place / "server").glob("*/access.json")))
            with _running([[*common, "worker", "start", f"--cpus={self._at_once}"]], place):
                started = time.perf_counter()
                words = [f"--array=0-{self._tasks - 1}", "--stdout=none", "--stderr=none", f"{place}/script"]
                subprocess.run(
                    [*common, "submit", "--wait", *words], check=True, capture_output=True, timeout=PATIENCE_S
                )
                return self._tasks / (time.perf_counter() - started)


@contextmanager
def _running(commands: list[list[str]], directory: Path) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    processes = [subprocess.Popen(command, cwd=directory, stdout=quiet, stderr=quiet) for command in commands]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


def _wait_for(is_there: Callable[[], bool]) -> None:
    until = time.perf_counter() + 60
    while not is_there() and time.perf_counter() < until:
        time.sleep(LOOK_INTERVAL_S)


def find_version(command: list[str]) -> str | None:
    """The first line of what a program says about its version; None if it is not installed."""
    if shutil.which(command[0]) is None:
        return None
    said = subprocess.run(command, capture_output=True, text=True)
    return next(iter((said.stdout or said.stderr).splitlines()), "") if said.returncode == 0 else None


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--tasks", type=int, default=5_000, help="tasks in each round (default: 5,000)")
    parser.add_argument("--workers", type=int, default=2, help="workers, and tasks of a peer at once (default: 2)")
    parser.add_argument(
        "--python", default=str(PROJECT / "build" / "peers" / "bin" / "python"), help="has huey and jug"
    )
    options = parse(parser)
    peers = Peers(options.directory, options.tasks, options.workers, Path(options.python))
    of_package = "import importlib.metadata as m; print(m.version({!r}))"
    known: dict[str, tuple[list[str], Callable[[], float]]] = {
        "xargs": (["xargs", "--version"], peers.xargs),
        "GNU Parallel": (["parallel", "--version"], peers.gnu_parallel),
        "Task Spooler": (["tsp", "-V"], peers.task_spooler),
        "huey": ([options.python, "-c", of_package.format("huey")], peers.huey),
        "jug": ([options.python, "-c", of_package.format("jug")], peers.jug),
        "HyperQueue": (["hq", "--version"], peers.hyperqueue),
    }
    versions = {name: find_version(command) for name, (command, _) in known.items()}
    measures: dict[str, Callable[[], float]] = {
        "floor": lambda: measure_floor(options.directory, options.tasks, options.workers),
        "tasks": lambda: measure_tasks(options.directory, options.tasks, options.workers),
        "jobs": lambda: measure_workers(options.directory, max(100, options.tasks // 5), options.workers),
        **{name: measure for name, (_, measure) in known.items() if versions[name] is not None},
    }
    values = alternate(options.rounds, measures)
    rows = [("tasks of an array here", "", spread(values["tasks"]), "1"), ("jobs here", "", *_of(values, "jobs"))]
    rows += [(name, version or "is not installed", *_of(values, name)) for name, version in versions.items()]
    rows.append(("posix_spawn + waitpid", "the floor", *_of(values, "floor")))
    print_table(("", "version", "a second", "tasks here beside it"), rows)
    ratios = [median_ratio(values["tasks"], values[name]) for name in known if name in values]
    if ratios:
        print(f"tasks here beside the best peer: {shown(min(ratios))}, {verdict(min(ratios), WANTED_OF_BEST, True)}")


def _of(values: dict[str, list[float]], name: str) -> tuple[str, str]:
    """A program's tasks a second, and how many times as many tasks run here."""
    if name not in values:
        return "", ""
    return spread(values[name]), shown(median_ratio(values["tasks"], values[name]))


if __name__ == "__main__":
    main()
