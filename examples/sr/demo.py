"""The three-stage SR computation of the user guide, on this machine's own Python standard library.

Makes a jar in DIRECTORY/jar, starts two workers, submits the seed job, and watches: `distribute_sr` submits a `run_sr`
for each share of the files and a `monitor_sr`, which submits `merge_sr` when all shares are counted. Results are in
DIRECTORY/sr. Nothing is left running, however it ends; what it made stays until the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil

import jobjar

PROGRAMS = Path(__file__).resolve().parent
WORKERS = 2
PATIENCE_S = 30.0
LOOK_INTERVAL_S = 0.2
REPORT_LINES = 18
# In the directories that this program makes. It removes no others.
MARK = "made-by-demo"

interrupted: list[int] = []


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

    def say(self, what: str, detail: str) -> None:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default="build/demo", help="where to work (default: build/demo)")
    parser.add_argument("--source", default=sysconfig.get_path("stdlib"), help="the tree whose .py files are counted")
    parser.add_argument("--shares", type=int, default=20, help="how many shares to split it into (default: 20)")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: interrupted.append(number))
    home, results = Path(options.directory).absolute() / "jar", Path(options.directory).absolute() / "sr"
    progress = Progress()
    try:
        make_room(home, results)
        print(f"Counting the names in the .py files under {options.source}, {options.shares} shares, {WORKERS} workers")
        try:
            start_workers()
            seed = ["distribute_sr", options.source, str(results), str(options.shares)]
            submit_seed(seed)
            watch(results, progress)
            took_s = progress.elapsed_s
            progress.end_line()
            print(f"\n{run('system_status').rstrip()}\n")
            run("stop_worker", "all")
            wait_for_workers()
        finally:
            progress.end_line()
            end_workers()
        print_results(home, results, took_s)
    except Interrupted:
        print("Interrupted; the workers have ended", file=sys.stderr)
        return 130
    except (DemoFailed, jobjar.JarError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def make_room(home: Path, results: Path) -> None:
    """A new jar and a new directory of results, in place of those of the demo's last run. Sets the environment that
    programs, workers and jobs get. Raises DemoFailed where something else is in the way."""
    for path in (home, results):
        if os.path.lexists(path) and not (path / MARK).is_file():
            raise DemoFailed(f"{path} is not from this demo; move it away, or name another directory")
    for name in [name for name in os.environ if name.startswith("JJ_")]:
        del os.environ[name]
    # This person's own configuration file is for other jars.
    os.environ.update(JJ_HOME=str(home), JJ_CONFIG_FILE=str(home / "config.ini"))
    # The jobs' programs, and the interpreter that `env python3` in their first line finds.
    os.environ["PATH"] = os.pathsep.join(
        (str(PROGRAMS), os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath))
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
        (path / MARK).write_text("examples/sr/demo.py made this directory, and its next run removes it\n")


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


def submit_seed(words: list[str]) -> None:
    run("submit_job", "-i", words[0], words[0], *map(shlex.quote, words[1:]))


def watch(results: Path, progress: Progress) -> None:
    """Say how far the computation is until it is done. Raises DemoFailed, Interrupted."""
    idle_looks = 0
    while True:
        if interrupted:
            raise Interrupted
        waiting, running, completed = jobjar.unclaimed_jobs(), jobjar.claimed_jobs(), jobjar.completed_jobs()
        shares, counted = count_files(results / "shares"), count_files(results / "counts")
        has_report = (results / "report.txt").exists()
        if has_report:
            stage = "the report is written"
        elif shares and counted == shares:
            stage = f"all {shares} shares are counted"
        elif any("run_sr" in job.name for job in (*waiting, *running, *completed)):
            stage = f"{counted} of {shares} shares are counted"
        else:
            stage = "splitting the files into shares"
        progress.say(stage, f"jobs: {len(waiting)} waiting, {len(running)} running, {len(completed)} completed")
        for job in completed:
            if job.outcome != "succeeded":
                progress.end_line()
                raise DemoFailed(describe_failure(job))
        if has_report and not waiting and not running:
            return
        if (waiting or running) and not jobjar.running_workers():
            raise DemoFailed(f"no worker runs any more; {os.environ['JJ_HOME']}/workers/*/worker.log may say why")
        # Once is no proof: a job can be claimed, submit another and complete between the looks at two jars.
        idle_looks = 0 if waiting or running else idle_looks + 1
        if idle_looks > 3:
            raise DemoFailed(f"all jobs have ended and there is no {results / 'report.txt'}")
        time.sleep(LOOK_INTERVAL_S)


def count_files(directory: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(not name.startswith(".") for name in os.listdir(directory))
    return 0


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


def wait_for_workers() -> None:
    """Wait until the workers, which were told to stop, are gone. Raises DemoFailed."""
    if left := wait_until_gone(find_workers()):
        raise DemoFailed(f"workers did not stop within {PATIENCE_S:g} s: {', '.join(str(p.pid) for p in left)}")


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


def print_results(home: Path, results: Path, took_s: float) -> None:
    report = (results / "report.txt").read_text().splitlines()
    merge = next(job.name for job in jobjar.completed_jobs() if "merge_sr" in job.name)
    print("\n".join(report[:REPORT_LINES]))
    print(f"… {max(0, len(report) - REPORT_LINES)} more lines\n")
    print(f"It took {took_s:.1f} s. No worker runs any more. What there is:")
    rows = [
        ("the report", results / "report.txt"),
        ("lists and counts", results),
        ("the jar", home),
        ("its completed jobs", home / "completed"),
        ("what they printed", home / "workers/*/output"),
        ("look further", f"{shlex.quote(str(home))}/bin/system_status"),
        ("", f"{shlex.quote(str(home))}/bin/jobjar show {merge}"),
        ("", f"{shlex.quote(str(home))}/bin/jobjar output {merge}"),
    ]
    for label, value in rows:
        print(f"  {label:18}  {value}")


if __name__ == "__main__":
    sys.exit(main())
