"""start_worker --on: workers on other hosts by a real sshd, hosts that refuse, and one that does not answer."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.rigs.space import missing_programs
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.root


def find_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path


@pytest.fixture
def ssh_config(tmp_path: Path) -> Iterator[Path]:
    """ssh's configuration with the hosts `near` and `far`, which are this machine, `denied`, which does not take the key, `down`,
    where nothing listens, and `mute`, which never says a word."""
    missing = missing_programs(("sshd", "ssh", "ssh-keygen"))
    if missing or os.geteuid() != 0:
        pytest.skip(f"ssh: {'needs root' if not missing else 'not installed: ' + ', '.join(missing)} (`make packages`)")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    host_key, own, other = (make_key(tmp_path / name) for name in ("host", "own", "other"))
    shutil.copy(f"{own}.pub", tmp_path / "authorized")
    port = find_port()
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {tmp_path}/authorized\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    assert sshd is not None
    server = subprocess.Popen(
        [sshd, "-D", "-e", "-f", str(tmp_path / "sshd_config")],
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath},
    )
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(5)
        ports = {"near": port, "far": port, "denied": port, "down": find_port(), "mute": mute.getsockname()[1]}
        config = tmp_path / "ssh_config"
        common = "HostName 127.0.0.1\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nIdentitiesOnly yes\n"
        common += "LogLevel ERROR\n"
        config.write_text(
            "".join(
                f"Host {name}\nPort {number}\nIdentityFile {other if name == 'denied' else own}\n{common}"
                for name, number in ports.items()
            )
        )
        assert server.stderr is not None
        while "listening" not in (line := server.stderr.readline()):
            assert line, "sshd did not start"
        yield config
    server.terminate()
    server.communicate(timeout=30)


def test_workers_start_on_each_host_that_answers_and_the_others_say_why_not(
    rig: Rig, ssh_config: Path, tmp_path: Path
) -> None:
    rig.environment.update(JJ_SSH=f"ssh -F {ssh_config}", JJ_NODE="here")
    rig.environment["JJ_ON_END"] = f'echo "it\'s $JJ_ENDED" >> {tmp_path}/told'
    jobs = [rig.submit("-c", "SMALL", 'echo "$JJ_NODE"') for _ in range(3)]
    words = ["--per-host", "2", "--max-jobs", "1", "--idle-exit", "1h", "--for", "1h", "SMALL"]
    result = rig.run("start_worker", "--on", "near,far", *words)
    started = result.stdout.split()
    assert len(set(started)) == 4 and result.stderr == ""
    assert rig.run("jobjar", "wait", "--timeout", "60s", *jobs).returncode == 0
    assert "it's job\n" in (tmp_path / "told").read_text()
    # They were told what there is in this environment, by name, but not who this node is.
    assert {name.rpartition(".")[0] for name in started} == {os.uname().nodename}
    assert rig.run("jobjar", "output", jobs[0]).stdout.strip() == os.uname().nodename
    wait_until(lambda: sum(rig.worker_ended(name) for name in started) == 3, "three to end after a job")
    result = rig.run("start_worker", "--on", "near,denied,down,mute", "--ssh-timeout", "3s", check=False)
    assert result.returncode == 1 and len(result.stdout.split()) == 1
    said = {line.split(": ")[1]: line for line in result.stderr.splitlines()}
    assert set(said) == {"denied", "down", "mute"}
    assert "Permission denied" in said["denied"] and "Connection refused" in said["down"]
    assert "timed out" in said["mute"] or "no answer within 3 s" in said["mute"]
    rig.run("stop_worker", "all")
    wait_until(lambda: not rig.processes(), "the end of all workers")
    rig.assert_clean()


def test_what_is_no_host_is_refused_before_anything_is_started(rig: Rig) -> None:
    for hosts in ("", "a,,b", "-oProxyCommand=touch x", "a b"):
        result = rig.run("start_worker", f"--on={hosts}", check=False, JJ_SSH="/nonexistent")
        assert result.returncode == 2 and "is no name of a host" in result.stderr
    result = rig.run("start_worker", "--on", "a", check=False, JJ_SSH="/nonexistent")
    assert result.returncode == 1 and "a: /nonexistent: No such file or directory" in result.stderr
    assert rig.run("start_worker", "--on", "a", "--foreground", check=False).returncode == 2
