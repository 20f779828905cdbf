"""The programs by which tests prepare a jar and look at it, in real processes that start at once.

Most of what such a program takes is its start: Python, and what it imports. One server of multiprocessing has imported that, and
forks a process for each program, which then runs the installed script as Python would. What a test is about it starts with
`Rig.run`, by Python itself.
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
from unittest import mock

# What the programs of `Rig.submit`, `show`, `status`, `assert_clean` and `run_until_idle` import.
_IMPORTED = [
    "jobjar.programs.submit_job",
    "jobjar.programs.system_status",
    "jobjar.programs.jobjar",
    "jobjar.programs.wait",
    "jobjar.programs.show",
    "jobjar.programs.check",
    "jobjar.reports.check",
    "jobjar.reports.jobs",
    "jobjar.reports.status",
    "jobjar.reports.wait",
    "jobjar.stages.submit",
    "tabulate",
    "tests.looking",
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
    with tempfile.TemporaryDirectory() as directory:
        outputs = [f"{directory}/{name}" for name in ("stdout", "stderr")]
        process = _context.Process(
            target=_be_program,
            args=(path, list(words), dict(environment), os.getcwd(), _read_umask(), outputs),
        )
        with mock.patch.object(tempfile, "tempdir", _TEMPORARY):
            process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([path, *words], timeout_s)
        texts = []
        for output in outputs:
            with open(output, encoding="utf-8") as file:
                texts.append(file.read())
        return subprocess.CompletedProcess([path, *words], process.exitcode, *texts)


def _read_umask() -> int:
    before = os.umask(0o022)
    os.umask(before)
    return before


def _be_program(
    path: str, words: list[str], environment: dict[str, str], directory: str, umask: int, outputs: list[str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.umask(umask)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
    sys.argv = [path, *words]
    runpy.run_path(path, run_name="__main__")
