"""Slurm for tests: a real controller and nodes n1, n2 … on this machine's loopback, without munge or systemd (slurm-up.sh).

Started by hand, with a shell that has its SLURM_CONF: python -m tests.hosts.rigs.slurm
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.hosts.rigs.space import missing_programs

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "unshare")
_SCRIPTS = Path(__file__).parent
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


class Slurm:
    """A running Slurm. Its files lie under `directory`, whose path has to be short; `settings` are those of slurm-up.sh."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self._settings = {"SLURM_PORT": str(_find_ports(1 + int(settings.get("NODES", "2")))), **settings}
        # What programs that speak to this Slurm need in their environment.
        self.environment = {"SLURM_CONF": str(directory / "slurm.conf")}
        self.up()

    def up(self) -> None:
        """Start it, or what died of it."""
        self._run_script("slurm-up.sh")

    def down(self) -> None:
        """End it with all jobs. Its queue stays, for another `up`."""
        self._run_script("slurm-down.sh")

    def _run_script(self, name: str) -> None:
        environment = {**os.environ, **self._settings, "RIG_DIR": str(self.directory), "PATH": _PATH}
        result = subprocess.run(
            ["bash", str(_SCRIPTS / name)],
            env={name: value for name, value in environment.items() if not name.startswith("JJ_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stdout

    def pid_of(self, name: str) -> int:
        """The process of slurmctld, or the first one of a node; where that is killed (SIGKILL) its power has failed."""
        return int((self.directory / "pids" / name).read_text())

    def run(self, *words: str, environment: Mapping[str, str] | None = None, check: bool = True) -> str:
        """Run one of Slurm's commands to its end; returns what it wrote to standard output."""
        result = subprocess.run(
            words,
            env={**(os.environ if environment is None else environment), **self.environment, "PATH": _PATH},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
        )
        assert not check or result.returncode == 0, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout.strip()


def why_no_slurm() -> str | None:
    """Why the rig cannot run here, or None."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "it needs root on Linux (namespaces)"
    missing = missing_programs(PROGRAMS)
    return f"not installed: {', '.join(missing)} (`make packages`)" if missing else None


@contextlib.contextmanager
def open_slurm(**settings: str) -> Iterator[Slurm]:
    """A Slurm in a directory of its own with a short path; all of it is ended and removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="jjs", dir="/tmp"))
    slurm: Slurm | None = None
    try:
        slurm = Slurm(directory, **settings)
        yield slurm
    finally:
        if slurm is None:  # it did not come up whole
            environment = {**os.environ, "RIG_DIR": str(directory)}
            subprocess.run(["bash", str(_SCRIPTS / "slurm-down.sh")], env=environment, timeout=60, check=False)
        else:
            slurm.down()
        shutil.rmtree(directory, ignore_errors=True)


def _find_ports(count: int) -> int:
    """The first of so many ports that are free now."""
    for _ in range(100):
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def main() -> None:
    with open_slurm() as slurm:
        print(f"export SLURM_CONF={slurm.environment['SLURM_CONF']}", flush=True)
        subprocess.run(["bash"], env={**os.environ, **slurm.environment}, check=False)


if __name__ == "__main__":
    main()
