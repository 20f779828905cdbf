"""What shells offer when a person presses Tab."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

from jobjar.host import node_name
from tests.rig import BIN, Rig, wait_until

# What bash does for a Tab: it sets these variables and calls the function that the script told it.
_BASH = """
eval "$(jobjar completion bash)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
_python_argcomplete "${COMP_WORDS[0]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
_FISH = """
jobjar completion fish | source
complete -C $argv[1] | string split -f1 \\t
"""
_ZSH = """PS1=; autoload -Uz compinit; compinit -u -D; eval "$(jobjar completion zsh)"; echo be""gun
"""


def ask(rig: Rig, shell: list[str], script: str, line: str) -> list[str]:
    """What a shell offers after this line, in order."""
    words = [*shell, "-c", script, *([] if shell[0] == "fish" else [shell[0]]), line]
    environment = {**rig.environment, "PATH": f"{BIN}:{rig.environment['PATH']}", "TERM": "dumb"}
    result = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, cwd=rig.home
    )
    assert "Traceback" not in result.stderr
    return sorted(filter(None, map(str.strip, result.stdout.splitlines())))


def test_bash_is_offered_verbs_options_and_what_is_in_the_jar(rig: Rig) -> None:
    def offered(line: str) -> list[str]:
        return ask(rig, ["bash", "--norc"], _BASH, line)

    # Without a ledger there is nothing to offer of jobs, and no message.
    assert offered("jobjar show ") == []
    plain = rig.submit("-c", "LINUX", "true")
    rig.submit("--id", "training", "true")
    rig.shell("printf 'batch\\nname = nightly\\nrun_command = true\\n' > b.jug && submit_batch b.jug")
    uid = rig.show(plain)["id"]
    assert offered("jobjar li") == ["list", "list_outputs"]
    assert offered("jobjar list-") == ["list-outputs"] and offered("jobjar help sta") == ["start_worker", "stats"]
    assert offered("jobjar list --st") == ["--state"]
    assert offered("jobjar list --state ru") == ["running"]
    assert offered("jobjar list --category L") == ["LINUX"] == offered("submit_job -c L")
    assert offered("start_worker L") == ["LINUX"]
    assert offered(f"jobjar show {uid[:5]}") == [uid]
    assert {uid, "training"} <= {*offered("jobjar output -f ")}
    assert offered("jobjar output -f trai") == ["training"]
    assert offered("batch_status ni") == ["nightly"] == offered("jobjar wait ni")
    assert offered(f"system_status --home {rig.home} --for") == ["--format"]
    assert "completed/" in "".join(offered("jobjar submit cat comple"))
    # Only what runs can be killed; only workers that run can be stopped.
    assert offered("jobjar kill ") == []
    running = rig.submit("--id", "endless", "sleep 100")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(running)["state"] == "claimed", "the claim")
    assert offered("jobjar kill ") == ["endless"]
    name = f"{node_name()}.{worker.pid}"
    assert offered("stop_worker ") == sorted(["all", node_name(), name])
    rig.run("jobjar", "kill", running)
    rig.stop_worker(worker)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_is_offered_the_same(rig: Rig) -> None:
    rig.show(rig.submit("--id", "training", "true"))
    assert ask(rig, ["fish", "--no-config"], _FISH, "jobjar li") == ["list", "list_outputs"]
    assert ask(rig, ["fish", "--no-config"], _FISH, "jobjar show tr") == ["training"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_is_offered_the_same(rig: Rig) -> None:
    ours, its = os.openpty()
    os.set_blocking(ours, False)
    environment = {**rig.environment, "PATH": f"{BIN}:{rig.environment['PATH']}", "TERM": "xterm"}
    zsh = subprocess.Popen(["zsh", "-fi"], env=environment, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    seen = bytearray()

    def has_seen(text: bytes) -> bool:
        with contextlib.suppress(OSError):  # nothing new
            seen.extend(os.read(ours, 65536))
        return text in seen

    try:
        os.write(ours, _ZSH.encode())
        wait_until(lambda: has_seen(b"begun"), "zsh to be ready")
        os.write(ours, b"jobjar rebu\t")
        wait_until(lambda: has_seen(b"rebuild"), "what zsh offers")
    finally:
        zsh.kill()
        zsh.wait()
        os.close(ours)


def test_no_other_shell_gets_a_script(rig: Rig) -> None:
    result = rig.run("jobjar", "completion", "tcsh", check=False)
    assert result.returncode == 2 and "invalid choice" in result.stderr
