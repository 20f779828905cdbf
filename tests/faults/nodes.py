"""The storm's nodes: each has its own host name, boot id, process ids and mounts, and its own ledger home or the jar's.

All of it lies inside the namespaces of the storm itself, so that nothing is left when that is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from jobjar.layout import Layout
from jobjar.liveness import process_start
from jobjar.roster import list_workers
from tests.hosts.nodes import BOOT
from tests.rig import BIN, wait_until

# The first process of a node: it lives until its standard input ends.
_INIT = f'hostname "$1"; {BOOT}; echo up; read line'
PROGRAM_PATIENCE_S = 200.0


class Said:
    """What a program came to. `status` is None where it did not end by itself in time."""

    def __init__(self, status: int | None, output: str, errors: str) -> None:
        self.status = status
        self.output = output
        self.errors = errors


class Node:
    """A node that may be killed and booted again under the same name."""

    def __init__(self, name: str, layout: Layout, environment: Mapping[str, str], ledger_home: Path) -> None:
        self.name = name
        self.layout = layout
        self.environment = dict(environment)
        self.ledger_home = ledger_home
        self.complaints: list[str] = []
        # While it is held nobody starts a program here, or kills or boots the node.
        self.power = threading.RLock()
        self.boots = 0
        self.is_frozen = False
        # How often nsenter stopped itself after its node had been thawed.
        self.woken_late = 0
        self._unshare: subprocess.Popen[str] | None = None
        self._init = 0
        self._programs: set[subprocess.Popen[str]] = set()

    # Power

    def boot(self) -> None:
        with self.power:
            if self.is_up():
                return
            self.boots += 1
            self._unshare = subprocess.Popen(
                [
                    "unshare",
                    "--uts",
                    "--pid",
                    "--fork",
                    "--mount-proc",
                    "--kill-child",
                    "sh",
                    "-c",
                    _INIT,
                    "sh",
                    self.name,
                ],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # util-linux 2.38 complains of its own --kill-child when it is killed
                text=True,
                start_new_session=True,
                cwd="/",
            )
            assert self._unshare.stdout is not None and self._unshare.stdout.readline() == "up\n"
            with open(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children", encoding="ascii") as file:
                self._init = int(file.read().split()[0])

    def is_up(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def pid_namespace(self) -> int:
        """The number of the PID namespace of the node's present run."""
        return os.stat(f"/proc/{self._init}/ns/pid").st_ino

    def kill(self) -> None:
        """The power fails: every process of this node is gone at once."""
        with self.power:
            if self._unshare is not None and self.is_up():
                os.kill(self._init, signal.SIGKILL)
                self.is_frozen = False
                self._wake_nsenters()
                self._unshare.communicate()

    def freeze(self) -> None:
        """Stop every process of this node."""
        self.is_frozen = True
        for _ in range(5):
            running = [pid for pid in self.processes() if _state(pid) not in ("T", "Z", "")]
            for pid in running:
                _signal(pid, signal.SIGSTOP)
            if not running:
                return

    def thaw(self) -> None:
        self.is_frozen = False
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)
        self._wake_nsenters()

    def _wake_nsenters(self) -> None:
        """nsenter(1) stops itself when its child was stopped, and somebody has to wake it."""
        for program in list(self._programs):
            if program.poll() is None:
                _signal(program.pid, signal.SIGCONT)

    # Programs

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str] | None:
        """Start a command on this node, or None where it is down."""
        with self.power:
            if not self.is_up():
                return None
            program = subprocess.Popen(
                ["nsenter", "--target", str(self._init), "--uts", "--pid", "--mount", *words],
                env={**self.environment, **changes},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd="/",
                start_new_session=True,
            )
            self._programs.add(program)
            return program

    def run(self, name: str, *words: str, **changes: str) -> Said | None:
        """Run an installed program to its end; None where the node is down. Tracebacks are noted as complaints."""
        program = self.start(str(BIN / name), *words, **changes)
        return None if program is None else self.finish(program, f"{name} {' '.join(words)}"[:200])

    def finish(self, program: subprocess.Popen[str], what: str) -> Said:
        try:
            output, errors = self._communicate(program)
        except subprocess.TimeoutExpired:
            self.complaints.append(f"{self.name}: {what} did not end within {PROGRAM_PATIENCE_S:g} s")
            _signal(program.pid, signal.SIGKILL)
            output, errors = program.communicate()
            return Said(None, output, errors)
        finally:
            self._programs.discard(program)
        if "Traceback" in errors:
            self.complaints.append(f"{self.name}: {what} ended with a traceback:\n{errors}")
        return Said(program.returncode, output, errors)

    def _communicate(self, program: subprocess.Popen[str]) -> tuple[str, str]:
        """Read what a program says until it ends. nsenter may stop itself for its child only after `thaw` woke it, so it is woken
        until it has ended. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + PROGRAM_PATIENCE_S
        while True:
            try:
                return program.communicate(timeout=2.0)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= deadline:
                    raise
            if not self.is_frozen and _state(program.pid) == "T":
                self.woken_late += 1
                _signal(program.pid, signal.SIGCONT)

    def shell_as_root(self, script: str) -> bool:
        """Change this node's mounts; returns whether it succeeded."""
        program = self.start("/bin/sh", "-ec", script)
        return program is not None and self.finish(program, script).status == 0

    # Processes

    def kill_programs_of(self, nsenter: subprocess.Popen[str]) -> None:
        """Kill what `start` started, inside of this node."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if _parent(pid) == nsenter.pid:
                    os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """The process ids, as they are outside of this node, of all that runs on it."""
        if not self.is_up():
            return []
        try:
            space = os.readlink(f"/proc/{self._init}/ns/pid")
        except OSError:
            return []
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{name}/ns/pid") == space:
                        found.append(int(name))
        return found

    def workers(self) -> dict[str, int]:
        """The workers that run here: names, and process ids as they are outside of this node."""
        inner = {}
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                line = next((line for line in file if line.startswith("NSpid:")), "")
                if line:
                    inner[int(line.split()[-1])] = pid
        found = {}
        for worker in list_workers(self.layout):
            pid = inner.get(worker.process.pid, 0)
            is_here = worker.process.node == self.name and not worker.set_aside and not worker.ended
            if is_here and pid and process_start(pid) == worker.process.started:
                found[worker.name] = pid
        return found

    def wait_for_no_workers(self, timeout_s: float) -> None:
        wait_until(lambda: not self.workers(), f"the end of the workers of {self.name}", timeout_s)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b") ")[2].split()[1])
