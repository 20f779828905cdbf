"""Nodes made real on one machine: each has its own host name, its own process ids (uts and pid namespaces) and its own boot
id, as machines have; or containers of this machine, which has booted once for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil

from tests.rig import BIN, Result, Rig, wait_until

# The first process of a node: it lives until its standard input ends, and needs no processes of its own meanwhile.
# A boot id of its own is mounted over the kernel's (`has_booted`), so that it counts as a machine that was just started.
BOOT = (
    'id=$(mktemp); cat /proc/sys/kernel/random/uuid > "$id"; chmod 444 "$id"; '
    'mount --bind "$id" /proc/sys/kernel/random/boot_id; rm "$id"'
)
_INIT = 'hostname "$1" && echo up; read line'


class Node:
    """A running node of a rig's jar; without `has_booted` a container of this machine. The first program that is started on
    one always gets the same process id."""

    def __init__(self, rig: Rig, name: str, has_booted: bool = True, **changes: str) -> None:
        self.rig = rig
        self.name = name
        self.environment = {**rig.environment, **changes}
        self._programs: list[subprocess.Popen[str]] = []
        init = f"{BOOT}; {_INIT}" if has_booted else _INIT
        self._unshare = subprocess.Popen(
            ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", init, "sh", name],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == "up\n"
        self.init = psutil.Process(self._unshare.pid).children()[0].pid

    def start(self, program: str, *words: str, **changes: str) -> subprocess.Popen[str]:
        """Start a program on this node."""
        process = subprocess.Popen(
            ["nsenter", "--target", str(self.init), "--uts", "--pid", "--mount", str(BIN / program), *words],
            env={**self.environment, **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.rig.home,
        )
        self._programs.append(process)
        return process

    def run(self, program: str, *words: str, check: bool = True, **changes: str) -> Result:
        """Run a program on this node to its end."""
        process = self.start(program, *words, **changes)
        output, errors = process.communicate(timeout=120)
        assert not check or process.returncode == 0, f"{program} {words} on {self.name}: {output}\n{errors}"
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess([program, *words], process.returncode, output, errors)

    def start_worker(self, *words: str, **changes: str) -> str:
        """Start a worker on this node; returns its name once it has its directory."""
        process = self.start("start_worker", "--foreground", *words, **changes)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith(f"{self.name}."), line
        return line

    def stop_workers(self) -> None:
        """Have this node's workers leave after their jobs, and wait for that."""
        self.run("stop_worker", self.name, check=False)
        self._collect()

    def kill(self) -> None:
        """The power fails: every process of this node is gone at once."""
        if self._unshare.poll() is None:
            os.kill(self.init, signal.SIGKILL)
            self._unshare.communicate()
        self._collect()

    def shell(self, script: str) -> None:
        """Run lines of /bin/sh on this node, as its administrator."""
        words = ["nsenter", "--target", str(self.init), "--uts", "--pid", "--mount", "sh", "-ec", script]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)

    def rename(self, name: str) -> None:
        """Give this node another host name while it runs."""
        self.shell(f"hostname {name}")

    def wake(self) -> None:
        """nsenter(1) stops itself when its child was stopped, and somebody has to wake it."""
        for program in self._programs:
            program.send_signal(signal.SIGCONT)

    def hold_namespace(self) -> int:
        """A descriptor that keeps the kernel from giving the number of this node's PID namespace to the next one."""
        return os.open(f"/proc/{self.init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def _collect(self) -> None:
        for process in self._programs:
            process.communicate(timeout=60)
        self._programs.clear()


def outputs_of(log: Path) -> list[str]:
    """The lines that jobs wrote into a log."""
    return log.read_text().splitlines() if log.exists() else []


def wait_for_lines(log: Path, count: int) -> list[str]:
    wait_until(lambda: len(outputs_of(log)) >= count, f"{count} lines in {log.name}", 90)
    return outputs_of(log)
