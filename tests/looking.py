"""The programs by which tests prepare a jar and look at it, and the worker that does what waits, in real processes that start at
once.

Most of what such a program takes is its start: Python, and what it imports. One server of multiprocessing has imported that, and
forks a process for each program, which then runs the installed script as Python would. What a test is about it starts with
`Rig.run` or `Rig.start_worker`, by Python itself.
"""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

# What the programs import that tests prepare, look and end with.
_IMPORTED = [
    *(f"jobjar.programs.{name}" for name in ("submit_job", "start_worker", "stop_worker", "jobjar")),
    "jobjar.programs.recover_jobs",
    "jobjar.programs.system_status",
    "jobjar.worker.daemon",
    *(f"jobjar.programs.{verb}" for verb in ("wait", "show", "check", "explain", "kill", "list", "output", "rebuild")),
    "jobjar.programs.shown_meter",
    "jobjar.reports.check",
    "jobjar.reports.explain",
    "jobjar.reports.jobs",
    "jobjar.reports.output",
    "jobjar.reports.sentences",
    "jobjar.reports.status",
    "jobjar.reports.wait",
    "jobjar.selecting.select",
    "jobjar.stages.submit",
    "jobjar.recovery.recover",
    "tabulate",
    "tests.looking",
    "tests.frozen",  # what comes after it would be copied
]
# Python itself reads these when it starts.
_OF_PYTHON = ("PYTHON", "LC_", "LANG")
# The server's socket lies here. That of a test may be too deep for one, and goes with the test.
_TEMPORARY = tempfile.gettempdir()
_context = get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a program would find in its process what it finds when Python starts in this environment."""
    return all(
        environment.get(name) == os.environ.get(name)
        for name in {*environment, *os.environ}
        if name.startswith(_OF_PYTHON)
    )


def run_forked(
    path: str, words: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run an installed program to its end. Raises subprocess.TimeoutExpired, when it is killed."""
    with Forked(path, words, environment) as program:
        return program.wait(timeout_s)


class Forked:
    """An installed program that runs, in a session of its own. It is killed if it has not ended when the context does."""

    def __init__(self, path: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._words = [path, *words]
        self._place = tempfile.TemporaryDirectory()
        self._outputs = [f"{self._place.name}/{name}" for name in ("stdout", "stderr")]
        for output in self._outputs:
            os.close(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600))
        self._process = _context.Process(
            target=_be_program, args=(self._words, dict(environment), os.getcwd(), _read_umask(), self._outputs)
        )

    def __enter__(self) -> Forked:
        with mock.patch.object(tempfile, "tempdir", _TEMPORARY):
            self._process.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._place.cleanup()

    @property
    def has_ended(self) -> bool:
        return self._process.exitcode is not None

    def said(self) -> list[str]:
        """What it has written so far to standard output and standard error."""
        return [Path(output).read_text(encoding="utf-8") for output in self._outputs]

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._words, timeout_s)
        return subprocess.CompletedProcess(self._words, self._process.exitcode, *self.said())


def _read_umask() -> int:
    before = os.umask(0o022)
    os.umask(before)
    return before


def _be_program(words: list[str], environment: dict[str, str], directory: str, umask: int, outputs: list[str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # looked for again
    time.tzset()
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    os.umask(umask)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
