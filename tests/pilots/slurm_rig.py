"""A Slurm of one's own for tests: slurmctld and two nodes on this machine's loopback, each node with its own host name and
processes.

Its processes end with this one: each is in a PID namespace, or has this process as its parent that waits for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.rig import wait_until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_SPACE = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
_CONF = """ClusterName=rig
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
ReturnToService=1
KillWait=5
MinJobAge=300
SlurmdTimeout=30
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/%n.log
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=ALL Default=YES
PartitionName=short Nodes=ALL MaxTime=1
"""


def why_not() -> str | None:
    """Why there can be no Slurm here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]
    if missing:
        return f"no {missing[0]} (Debian's slurmctld, slurmd, slurm-client; `make packages`)"
    return None if os.geteuid() == 0 else "needs root"


class Slurm:
    """A running Slurm. `environment` is for its programs."""

    def __init__(self) -> None:
        # Paths of sockets are short.
        self.home = Path(tempfile.mkdtemp(prefix="jjs", dir="/tmp"))
        for name in ("state", "spool"):
            (self.home / name).mkdir()
        conf = self.home / "slurm.conf"
        conf.write_text(_CONF.format(host=socket.gethostname().partition(".")[0], home=self.home, ports=_free_ports(3)))
        self.environment = {"SLURM_CONF": str(conf), "PATH": _PATH}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self.start("slurmctld")
            self.start("n1")
            self.start("n2")
            wait_until(
                lambda: self.run("sinfo", "-h", "-N", "-p", "all", "-o", "%T").split() == ["idle"] * 2, "Slurm to be up"
            )
        except BaseException:
            self.close()
            raise

    def start(self, name: str) -> None:
        """Start the controller, or a node."""
        words = ["slurmctld", "-D"]
        if name != "slurmctld":
            words = [*_SPACE, "sh", "-c", 'hostname "$1"; slurmd -D -N "$1" & wait', "sh", name]
        with (self.home / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """End the controller, which writes down what it knows; or kill a node with all that runs there."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM if name == "slurmctld" else signal.SIGKILL)
        process.wait()

    def run(self, *words: str) -> str:
        """Run one of its programs; returns what it wrote."""
        result = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        return result.stdout

    def jobs(self, *options: str) -> list[str]:
        """The states of its jobs, `-t all` or as options say."""
        return self.run("squeue", "-h", *(options or ("-t", "all")), "-o", "%T").split()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.run("scancel", "--me")
        for name in list(self._processes):
            self.stop(name)
        shutil.rmtree(self.home, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
