"""NFS 4.2 for tests: three user-mode Linux guests, a kernel server on ext4 and two kernel clients, with caches and clocks of
their own.

The guests run in one namespace computer, whose end is theirs. Their root is this machine's, read-only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.hosts.rigs.space import NETWORK, CannotRun, Running, Space, make_network, why_not

PROGRAMS = ("linux.uml", "rpc.nfsd", "rpc.mountd", "rpcbind", "exportfs", "mount.nfs", "mkfs.ext4", "modprobe")
HERE = Path(__file__).resolve().parent
MOUNT_POINT = "/mnt/net"
PATIENCE_S = 180.0
_SERVER_ADDRESS = f"{NETWORK}.10"
_MEMORY = "640M"


def _has_large_state() -> bool:
    """Whether this processor has more state than user-mode Linux has room for (uml_xstate.c)."""
    return re.search(r"\bamx_tile\b", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")) is not None


def _make_environment(directory: Path) -> dict[str, str]:
    """The environment in which the guests' kernels run."""
    environment = dict(os.environ)
    if _has_large_state():
        library = directory / "uml_xstate.so"
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "uml_xstate.c")]
        subprocess.run(command, check=True, capture_output=True)
        environment["LD_PRELOAD"] = str(library)
    return environment


class Guest:
    """One guest. Its programs are run by its first process, which is asked over the network."""

    def __init__(
        self, outside: Space, directory: Path, name: str, address: str, environment: Mapping[str, str], *words: str
    ) -> None:
        self.name = name
        self.address = address
        self._outside = outside
        self._calls: list[Running] = []
        self._log = directory / f"{name}.{time.monotonic_ns()}.log"
        tap = f"tap-{name}"
        kernel = (
            *("linux.uml", f"mem={_MEMORY}", f"umid={name}", f"uml_dir={directory}/", "quiet"),
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1"),
            *(f"vec0:transport=tap,ifname={tap},depth=128", f"init={HERE / 'guest_init.sh'}"),
            *(f"rig_name={name}", f"rig_address={address}", f"rig_here={HERE}", f"rig_python={sys.executable}"),
        )
        with self._log.open("wb") as log:
            self._kernel = subprocess.Popen(
                [*outside.words("setsid", "--wait"), *kernel, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
            )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "ready" not in self._log.read_text(errors="replace").splitlines():
            if time.monotonic() > deadline or self._kernel.poll() is not None:
                raise CannotRun(f"the guest {self.name} did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> Running:
        """Start a program in the guest. What it writes can be read from the process's standard output."""
        call = ("env", "-i", sys.executable, "-S", "-E", str(HERE / "guest.py"), "call", self.address)
        process = self._outside.start(*call, json.dumps(dict(environment or {})), *words)
        self._calls.append(process)
        return process

    def run(self, *words: str, timeout_s: float = PATIENCE_S) -> str:
        """Run a program in the guest to its end, which has to be a good one; returns what it wrote."""
        process = self.start(*words)
        output, errors = process.communicate(timeout=timeout_s)
        if process.returncode:
            raise CannotRun(f"{' '.join(words)} on {self.name}: {process.returncode}: {output}{errors}".strip())
        return output

    def kill(self) -> None:
        """The power fails: the guest's kernel is gone at once, with all that it had not written."""
        pattern = f"umid={self.name}"
        words = ["sh", "-c", 'for p in /proc/[0-9]*; do grep -qzx -- "$1" $p/cmdline && echo ${p#/proc/}; done', "sh"]
        pids = [pid for pid in self._outside.start(*words, pattern).communicate()[0].split() if pid != "1"]
        if pids:
            self._outside.start("kill", "-9", *pids).communicate()
        self._kernel.wait(20)
        for call in self._calls:
            # A connection to what is gone is never told so.
            if call.poll() is None:
                for process in psutil.Process(call.pid).children(recursive=True):
                    process.kill()
        self._calls.clear()


class NFS:
    """A running server and its clients."""

    mount_point = Path(MOUNT_POINT)

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        disk = directory / "disk.img"
        with disk.open("wb") as file:
            file.truncate(2 << 30)
        self._environment = _make_environment(directory)
        options = ["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
        self._outside = Space("guests", 1)
        try:
            subprocess.run(["mkfs.ext4", *options, str(disk)], check=True, capture_output=True)
            make_network(self._outside)
            self._add_tap("server")
            self.server = self._boot("server", _SERVER_ADDRESS, f"ubd0={disk}")
            self._addresses: dict[str, str] = {}
        except BaseException:
            self.close()
            raise

    def _add_tap(self, name: str) -> None:
        self._outside.run("ip", "tuntap", "add", f"tap-{name}", "mode", "tap")
        self._outside.run("ip", "link", "set", f"tap-{name}", "master", "br0", "up")

    def _boot(self, name: str, address: str, *words: str) -> Guest:
        return Guest(self._outside, self._directory, name, address, self._environment, *words)

    def boot_host(self, name: str) -> Guest:
        """Start a client, or start it again after it was killed; `wait_until_up` on it tells when it has mounted."""
        if name not in self._addresses:
            self._addresses[name] = f"{NETWORK}.{11 + len(self._addresses)}"
            self._add_tap(name)
        return self._boot(name, self._addresses[name], f"rig_server={_SERVER_ADDRESS}")

    def stop_server(self) -> None:
        """Stop the server's threads: what clients ask of their mounts waits meanwhile."""
        self.server.run("rpc.nfsd", "0")

    def start_server(self) -> None:
        self.server.run("rpc.nfsd", "-H", _SERVER_ADDRESS, "-N", "3", "-V", "4.2", "4")

    def close(self) -> None:
        """End everything."""
        self._outside.kill()


def why_no_nfs() -> str | None:
    """Why the rig cannot run here, or None."""
    programs = (*PROGRAMS, "cc") if _has_large_state() else PROGRAMS
    return why_not(programs, ["/dev/net/tun"])
