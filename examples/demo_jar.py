"""What the demos of examples/ have in common: a jar of their own, workers, a line that says how far it is, an end that leaves
nothing running."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import jobjar

PATIENCE_S = 30.0
# In the directories that a demo makes. It removes no others.
MARK = "made-by-demo"

LOOK_INTERVAL_S = 0.2
WORKERS = 2

_interrupted: list[int] = []


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and what to look at."""


class Interrupted(Exception):
    """Ctrl-C, or a signal that asks to end."""


class Progress:
    """Says how far it is: one line that is rewritten on a terminal, otherwise a line for each change of `what`."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._on_terminal = sys.stdout.isatty()
        self._last = ""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def log(self, what: str, detail: str) -> None:
        line = f"{self.elapsed_s:6.1f} s  {what}; {detail}"
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]}\x1b[K", end="", flush=True)
        elif what != self._last:
            print(line, flush=True)
        self._last = what

    def end_line(self) -> None:
        if self._on_terminal and self._last:
            print()
        self._last = ""


def run_demo(demo: Callable[[Progress], None]) -> int:
    """Run a demo, having taken the signals that ask it to end; returns its exit status, and says why where that is not 0."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _interrupted.append(number))
    try:
        demo(Progress())
    except Interrupted:
        print("Interrupted; the workers have ended", file=sys.stderr)
        return 130
    except (DemoFailed, jobjar.JarError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def ending_workers(progress: Progress) -> Iterator[None]:
    """However what is done here ends, no worker is left."""
    try:
        yield
    finally:
        progress.end_line()
        end_workers()


def finish(progress: Progress, *report: str) -> float:
    """When all jobs are done: print what the program `report` says, and have the workers stop. Returns how long it took, in
    seconds. Raises DemoFailed."""
    took_s = progress.elapsed_s
    progress.end_line()
    print(f"\n{run(*report).rstrip()}\n")
    run("stop_worker", "all")
    if left := wait_until_gone(find_workers()):
        raise DemoFailed(f"workers did not stop within {PATIENCE_S:g} s: {', '.join(str(p.pid) for p in left)}")
    return took_s


def look_at_jobs(progress: Progress) -> tuple[list[jobjar.Job], list[jobjar.Job], list[jobjar.Job]]:
    """The jobs that wait, run and are completed. Raises Interrupted, or DemoFailed where one failed, or nobody is left to run
    the others."""
    if _interrupted:
        raise Interrupted
    waiting, running, completed = jobjar.unclaimed_jobs(), jobjar.claimed_jobs(), jobjar.completed_jobs()
    for job in completed:
        if job.outcome != "succeeded":
            progress.end_line()
            raise DemoFailed(describe_failure(job))
    if (waiting or running) and not jobjar.running_workers():
        raise DemoFailed(f"no worker runs any more; {os.environ['JJ_HOME']}/workers/*/worker.log may say why")
    return waiting, running, completed


def make_room(home: Path, results: Path, programs: Path) -> None:
    """A new jar and a new directory of results, in place of those of the demo's last run. Sets the environment that
    programs, workers and jobs get, with `programs` first in PATH. Raises DemoFailed where something else is in the way."""
    for path in (home, results):
        if os.path.lexists(path) and not (path / MARK).is_file():
            raise DemoFailed(f"{path} is not from this demo; move it away, or name another directory")
    for name in [name for name in os.environ if name.startswith("JJ_")]:
        del os.environ[name]
    # This person's own configuration file is for other jars.
    os.environ.update(JJ_HOME=str(home), JJ_CONFIG_FILE=str(home / "config.ini"))
    # The jobs' programs, and the interpreter that `env python3` in their first line finds.
    os.environ["PATH"] = os.pathsep.join(
        (str(programs), os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath))
    )
    if home.exists():
        with contextlib.suppress(jobjar.JarError):  # somebody took parts of it away
            end_workers()
        shutil.rmtree(home)
    if results.exists():
        shutil.rmtree(results)
    results.mkdir(parents=True)
    init = [os.path.join(os.path.dirname(sys.executable), "jobjar"), "init", str(home)]
    made = subprocess.run(init, capture_output=True, text=True, start_new_session=True)
    if made.returncode:
        raise DemoFailed(made.stderr.strip())
    for path in (home, results):
        (path / MARK).write_text("a demo of examples/ made this directory, and its next run removes it\n")


def run(program: str, *words: str) -> str:
    """Run one of the jar's programs; returns its output. A Ctrl-C is for the demo, not for it."""
    command = [f"{os.environ['JJ_HOME']}/bin/{program}", *words]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    if result.returncode:
        raise DemoFailed(f"{shlex.join(command)} ended with {result.returncode}\n{result.stderr.strip()}")
    return result.stdout


def start_workers() -> None:
    for _ in range(WORKERS):
        run("start_worker")


def describe_failure(job: jobjar.Job) -> str:
    how = f"{job.outcome}, exit status {job.exit_status}" if job.exit_status is not None else f"{job.outcome}"
    try:
        output = run("jobjar", "output", job.id or job.name).strip()
    except DemoFailed as error:
        output = str(error)
    command = f"{os.environ['JJ_HOME']}/bin/jobjar show {job.name}"
    return f"the job {job.name} did not succeed: {how}. Its output:\n{output}\nMore of it: {command}"


def find_workers() -> list[psutil.Process]:
    """The processes of this jar's workers on this node."""
    found = []
    for name in jobjar.running_workers():
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(int(name.rpartition(".")[2])))
    return found


def end_workers() -> None:
    """End the workers now, and the jobs that they run with them: those go back to the unclaimed jar."""
    processes = find_workers()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in wait_until_gone(processes):
        print(f"demo: worker {process.pid} does not end; killing it", file=sys.stderr)
        with contextlib.suppress(psutil.Error):
            process.kill()


def wait_until_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes that are not our children; returns those that are still there."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
