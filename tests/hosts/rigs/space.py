"""Computers made of namespaces, each with its own host name, process ids, network and mounts, and a network between them.

Nothing has a name outside: no `ip netns`, no interface, no mount of the machine's own. So two test runs never meet, and all
of it is gone when its first process is: that waits at a pipe of this process, and ends also when this one is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.hosts.nodes import BOOT

# Waits until this process closes the pipe, or is gone. The last line that it gets names what to write to at the end.
_INIT = (
    BOOT + '; hostname "$1" && ip link set lo up && echo up; '
    "last=/dev/null; while read line; do last=$line; done; echo 1 > $last"
)
_UNSHARE = ["unshare", "--uts", "--pid", "--net", "--mount", "--fork", "--mount-proc", "--kill-child"]
NETWORK = "10.77.0"
Running = subprocess.Popen[str]


class CannotRun(Exception):
    """The rig cannot run here, and why."""


class Space:
    """One computer. `address` is the last number of its address in the network."""

    def __init__(self, name: str, address: int) -> None:
        self.name = name
        self.address = f"{NETWORK}.{address}"
        self._started: list[Running] = []
        self._unshare = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _INIT, "sh", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._unshare.stdout is not None
        answer = self._unshare.stdout.readline()
        if answer != "up\n":
            self._unshare.kill()
            rest = self._unshare.communicate()[0]
            raise CannotRun(f"no namespaces here: {(answer + rest).strip()}")
        self.init = psutil.Process(self._unshare.pid).children()[0].pid
        self._abort = -1

    @property
    def is_up(self) -> bool:
        return self._unshare.poll() is None

    def words(self, *words: str) -> list[str]:
        """The command line that runs `words` on this computer."""
        return ["nsenter", "--target", str(self.init), "--uts", "--pid", "--net", "--mount", *words]

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, input: int = subprocess.DEVNULL
    ) -> Running:
        """Start a program here. Its standard output and error can be read from the process."""
        process = subprocess.Popen(
            self.words(*words),
            env=environment,
            stdin=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self._started.append(process)
        return process

    def run(self, *words: str, timeout_s: float = 120) -> str:
        """Run a program here to its end, which has to be a good one; returns what it wrote to standard output."""
        process = self.start(*words)
        output, errors = process.communicate(timeout=timeout_s)
        if process.returncode:
            raise CannotRun(f"{' '.join(words)} on {self.name}: {process.returncode}: {output}{errors}".strip())
        return output

    def path(self, path: str | Path) -> Path:
        """Where this process sees a path of this computer, with its mounts."""
        return Path(f"/proc/{self.init}/root{path}")

    def end_mount_with_host(self, mount_point: Path) -> None:
        """Have a FUSE mount's requests end when this computer does. Its own process may wait for one, and what waits there
        is not killed until the connection is aborted."""
        control = "/sys/fs/fuse/connections"
        self.run("mount", "-t", "fusectl", "none", control)
        abort = f"{control}/{os.minor(os.stat(self.path(mount_point)).st_dev)}/abort"
        self._abort = os.open(self.path(abort), os.O_WRONLY | os.O_CLOEXEC)
        assert self._unshare.stdin is not None
        self._unshare.stdin.write(f"{abort}\n")
        self._unshare.stdin.flush()

    def kill(self) -> None:
        """The power fails: every process here is gone at once."""
        if self.is_up:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
        if self._abort >= 0:
            with contextlib.suppress(OSError):  # gone by itself
                os.write(self._abort, b"1")
            os.close(self._abort)
            self._abort = -1
        self._unshare.communicate(timeout=60)
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
        self._started.clear()


def make_network(server: Space) -> None:
    """A bridge on the server, to which the others' cables lead."""
    server.run("ip", "link", "add", "br0", "type", "bridge")
    server.run("ip", "addr", "add", f"{server.address}/24", "dev", "br0")
    server.run("ip", "link", "set", "br0", "up")


def plug_in(server: Space, space: Space) -> None:
    """A cable from a computer to the server."""
    cable = f"to-{space.name}"[:15]
    in_server_s_network = ["nsenter", "--target", str(server.init), "--net"]
    # Not in the server's process namespace, where the other's process id means nothing.
    words = ["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(space.init)]
    laid = subprocess.run([*in_server_s_network, *words], capture_output=True, text=True)
    if laid.returncode:
        raise CannotRun(f"{' '.join(words)}: {laid.returncode}: {laid.stdout}{laid.stderr}".strip())
    server.run("ip", "link", "set", cable, "master", "br0", "up")
    space.run("ip", "addr", "add", f"{space.address}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")


def missing_programs(programs: Iterable[str]) -> list[str]:
    """Those of these programs that are not installed, also in the directories of an administrator."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    return [program for program in programs if shutil.which(program, path=path) is None]


def why_not(programs: Sequence[str], devices: Sequence[str]) -> str | None:
    """Why a rig that needs these cannot run on this machine; None where nothing is known against it."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "it needs root on Linux (namespaces, mounts)"
    missing = missing_programs(("unshare", "nsenter", "ip", *programs))
    if missing:
        return f"not installed: {', '.join(missing)} (`make packages`)"
    for device in devices:
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            return f"{device}: {error.strerror}"
    return None
