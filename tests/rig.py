"""A jar for a test, and the real programs run on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from jobjar.create import create_jar
from jobjar.jar import Jar, open_jar
from tests.looking import Forked, can_fork, run_forked

BIN = Path(sys.executable).parent
Result = subprocess.CompletedProcess[str]
PATIENCE_S = 30.0
# What a program may take.
LONGEST_S = 120
# The programs and verbs that tests run on their way, and the modules in which they are what is tested: there Python starts each.
MEANS = {
    *("recover_jobs", "stop_worker", "jobjar check", "jobjar explain", "jobjar kill", "jobjar list", "jobjar output"),
    *("jobjar rebuild", "jobjar show", "jobjar wait"),
}
ABOUT_MEANS = {
    *("test_explain", "test_first_sentence", "test_guide_workers", "test_list", "test_looking", "test_locales"),
    *("test_nightly", "test_output", "test_progress", "test_removed_by_hand", "test_waits", "test_words"),
}


def wait_until(condition: Callable[[], Any], what: str = "the condition", timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition()`; fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s:g} s"
        time.sleep(0.01)


def judge(result: Result, check: bool) -> Result:
    """What a program gave, which is no traceback; with `check`, it has to have succeeded."""
    assert not check or result.returncode == 0, f"{result.args}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr, result.stderr
    return result


def heed_signals() -> None:
    """Have a worker heed what tells it to end, also where the tests were started with `nohup` or `&`."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def stop_at_rest(pid: int) -> None:
    """Stop a process (SIGSTOP) while it holds no lock: what it locked would stay locked as long as it is stopped."""
    for _ in range(1_000):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"process {pid} to be stopped")
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if not any(str(pid) in words and ("FLOCK" in words or "WRITE" in words) for words in locks):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError(f"process {pid} held a lock whenever it was stopped")


class Rig:
    """A jar at `home`. `environment` is what its programs see; short times make tests quick."""

    def __init__(self, home: Path, make: bool = True) -> None:
        self.home = home
        if make:
            # Half of a hundred files that are on the disk for certain would take longer than most tests.
            with mock.patch.object(os, "fsync"):
                create_jar(str(home))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JJ_")},
            "JJ_HOME": str(home),
            "JJ_GRACE_TIME": "1",
            # A pause after each failure would make tests slow; tests of it say otherwise.
            "JJ_EXIT_ON_FAILURE": "no",
            "HOME": str(home.parent),
        }
        self.forks = True
        # Words before each program (who runs it, and where), and the directory that it begins in.
        self.before: list[str] = []
        self.directory: str | None = None
        self._started: list[subprocess.Popen[str]] = []
        self._jars: list[Jar] = []

    def run(self, program: str, *words: str, check: bool = True, **changes: str) -> Result:
        """Run an installed program to its end; with `check`, it has to succeed. `changes` go to its environment. What most tests
        run only to go on or to look is forked, where the test is not of its module (`run_forked`)."""
        if self.forks and (program in MEANS or f"{program} {words[0] if words else ''}" in MEANS):
            return self.run_forked(program, *words, check=check, **changes)
        return judge(self._run_by_python(program, words, changes), check)

    def run_forked(self, program: str, *words: str, check: bool = True, **changes: str) -> Result:
        """`run` for what is not the subject of the test: where it comes to the same, Python is not started (looking.py)."""
        environment = {**self.environment, **changes}
        if self.before or self.directory or not can_fork(environment):
            return judge(self._run_by_python(program, words, changes), check)
        return judge(run_forked(str(BIN / program), words, environment, LONGEST_S), check)

    def _run_by_python(self, program: str, words: tuple[str, ...], changes: dict[str, str]) -> Result:
        return subprocess.run(
            [*self.before, str(BIN / program), *words],
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
        )

    def submit(self, *words: str, **changes: str) -> str:
        """Submit with submit_job; returns the job's name."""
        return self.run_forked("submit_job", *words, check=True, **changes).stdout.strip()

    def drop(self, name: str, text: str, category: str = "", mode: int = 0o755) -> Path:
        """Put a job into the unclaimed jar by hand, as the guide says: copy to limbo, move on."""
        written = self.home / "limbo" / name
        written.write_text(text)
        written.chmod(mode)
        directory = self.home / "unclaimed" / category
        directory.mkdir(exist_ok=True)
        return written.rename(directory / name)

    def start_worker(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        """Start a worker in the foreground of a process of this test, and wait until it has its directory."""
        process = subprocess.Popen(
            [*self.before, str(BIN / "start_worker"), "--foreground", *words],
            env={**self.environment, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=heed_signals,
            cwd=self.directory,
        )
        self._started.append(process)
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, f"the worker did not start: {process.stderr.read()}"
        return process

    def stop_worker(self, process: subprocess.Popen[str]) -> str:
        """Have a worker leave after its job, wait for it, and return what it said on standard error."""
        process.send_signal(signal.SIGUSR1)
        return process.communicate(timeout=PATIENCE_S)[1]

    def run_until_idle(self, *words: str, **changes: str) -> str:
        """One worker from its start until no job waits or runs, or for a minute; returns what it said."""
        environment = {**self.environment, **changes}
        if self.before or self.directory or not can_fork(environment):
            process = self.start_worker(*words, **changes)
            self._wait_until_idle(**changes)
            return self.stop_worker(process)
        with Forked(str(BIN / "start_worker"), ("--foreground", *words), environment) as worker:
            wait_until(lambda: worker.said()[0] or worker.has_ended, "the worker to start")
            assert worker.said()[0], f"the worker did not start: {worker.said()[1]}"
            self._wait_until_idle(**changes)
            worker.send_signal(signal.SIGUSR1)
            return str(worker.wait(PATIENCE_S).stderr)

    def _wait_until_idle(self, **changes: str) -> None:
        waited = self.run_forked("jobjar", "wait", "--all", "--timeout", "60s", check=False, **changes)
        if waited.returncode == 124:
            warnings.warn(f"a minute's wait was for nothing; wait for what is meant: {waited.stderr}", stacklevel=3)

    def show(self, job: str) -> dict[str, Any]:
        """What `jobjar show --format json` says."""
        described: dict[str, Any] = json.loads(self.run_forked("jobjar", "show", "--format", "json", job).stdout)
        return described

    def explain(self, *jobs: str) -> list[dict[str, Any]]:
        """What `jobjar explain --format json` says of jobs."""
        said = self.run("jobjar", "explain", "--format", "json", *jobs).stdout
        explained: list[dict[str, Any]] = json.loads(said)["jobs"]
        return explained

    def status(self, **changes: str) -> dict[str, Any]:
        """What `system_status --format json` says."""
        described: dict[str, Any] = json.loads(
            self.run_forked("system_status", "--format", "json", check=True, **changes).stdout
        )
        return described

    def names(self, jar: str) -> list[str]:
        """The names of the files in a jar ('completed', 'unclaimed/LINUX')."""
        directory = self.home / jar
        return sorted(path.name for path in directory.iterdir() if not path.is_dir()) if directory.exists() else []

    def open(self) -> Jar:
        """The jar, opened in this process; closed when the test is over."""
        jar = open_jar(environment=self.environment)
        self._jars.append(jar)
        return jar

    def assert_clean(self, **changes: str) -> None:
        """`jobjar check` finds nothing, and a rebuilt ledger is equal to the one it replaces, row for row."""
        result = self.run_forked("jobjar", "check", check=False, **changes)
        assert result.returncode == 0, result.stdout + result.stderr

    def processes(self) -> list[psutil.Process]:
        """All processes that work on this jar: workers, their jobs, and what those left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("JJ_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def command_lines(self) -> list[list[str]]:
        """The command lines of those processes, as far as they still run when they are asked."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(process.cmdline())
        return found

    def end_everything(self) -> None:
        """End what was started here. Called when the test is over."""
        for jar in self._jars:
            jar.close()
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for started in self._started:
            if started.poll() is None:
                started.kill()
            started.communicate()
        wait_until(lambda: not left or not self.processes(), "the end of all processes of the test")

    def shell(self, script: str, directory: Path | None = None, **changes: str) -> Result:
        """Run lines of /bin/sh as a person would type them, in `directory`; all of them have to succeed."""
        result = subprocess.run(
            ["/bin/sh", "-ec", script],
            env={**self.environment, "PATH": f"{BIN}:{self.environment['PATH']}", **changes},
            cwd=directory or self.home,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, f"{script}\n{result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def worker_ended(self, name: str) -> bool:
        """Whether the worker of this name has left, by its own word."""
        text = (self.home / "workers" / name / "worker.json").read_text()
        return json.loads(text).get("ended_at") is not None
