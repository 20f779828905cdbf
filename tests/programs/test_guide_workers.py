"""The guide on workers: starting, stopping, pausing, by programs and by hand, and keeping as many as asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.rig import BIN, Rig, wait_until

NODE = os.uname().nodename


def worker_pid(name: str) -> int:
    return int(name.rpartition(".")[2])


def gated_job(rig: Rig, gate: Path) -> str:
    """Submit a job that runs until something is written to the FIFO `gate`; returns when it runs."""
    os.mkfifo(gate)
    name = rig.submit(f"read line < '{gate}'")
    wait_until(lambda: name in rig.names("claimed"), "the job's start")
    return name


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running()


def say_at_rest(rig: Rig, name: str) -> str:
    """The state of a worker in the status report."""
    return next((w["state"] for w in rig.status()["workers"]["workers"] if w["worker"] == name), "ended")


@pytest.fixture
def lonely(rig: Rig) -> Iterator[Rig]:
    """A rig whose programs are told nothing of the jar: they find it from their own place."""
    home = rig.environment.pop("JJ_HOME")
    yield rig
    rig.environment["JJ_HOME"] = home
    for path in (rig.home / "workers").glob("*/worker.json"):
        data = json.loads(path.read_text())
        if data.get("ended_at") is None and psutil.pid_exists(data["pid"]):
            process = psutil.Process(data["pid"])
            process.kill()
            wait_until(partial(is_gone, process), "the end of the worker")


def test_start_worker_from_the_jar_s_bin_directory(lonely: Rig) -> None:
    result = lonely.shell("cd bin\n./start_worker LINUX AMD_OPTERON")
    name = result.stdout.strip()
    assert name.rpartition(".")[0] == NODE
    worker = json.loads((lonely.home / "workers" / name / "worker.json").read_text())
    assert worker["categories"] == ["LINUX", "AMD_OPTERON"]
    process = psutil.Process(worker_pid(name))
    assert os.getsid(process.pid) != os.getsid(0)
    assert process.terminal() is None
    assert "LINUX AMD_OPTERON" in (lonely.home / "workers" / name / "worker.log").read_text()
    submitted = lonely.shell("bin/submit_job -c AMD_OPTERON true; bin/submit_job -c SUN true").stdout.split()
    wait_until(lambda: lonely.names("completed") == submitted[:1], "the job's end")
    lonely.shell("cd bin\n./stop_worker all")
    wait_until(lambda: lonely.worker_ended(name), "the worker's end")
    assert not (lonely.home / "workers" / "STOP_ALL").exists()
    assert (lonely.home / "workers" / name / "worker.log").exists()
    assert lonely.names("unclaimed/SUN") == submitted[1:]


def test_programs_find_the_jar_through_symbolic_links(lonely: Rig, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "first").symlink_to(lonely.home / "bin")
    (links / "submit").symlink_to(links / "first" / "submit_job")
    (links / "status").symlink_to("first/system_status")
    name = lonely.shell("./submit true", directory=links).stdout.strip()
    assert lonely.names("unclaimed") == [name]
    assert str(lonely.home) in lonely.shell("links/status", directory=tmp_path).stdout
    # What the environment names comes first.
    other = Rig(tmp_path / "other")
    name = lonely.shell("./submit true", directory=links, JJ_HOME=str(other.home)).stdout.strip()
    assert other.names("unclaimed") == [name]


def test_stop_worker_stops_nodes_and_workers_and_names_each_that_is_unknown(rig: Rig) -> None:
    first, second, third = (rig.start_worker() for _ in range(3))
    result = rig.run("stop_worker", "rain", f"{NODE}.{second.pid}", "flower.13764", check=False)
    assert result.returncode == 1
    assert result.stdout.split() == [f"{NODE}.{second.pid}"]
    assert "rain: no running worker" in result.stderr and "flower.13764: no running worker" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert second.wait(timeout=30) == 0
    assert first.poll() is None and third.poll() is None
    assert len(rig.run("stop_worker", NODE).stdout.split()) == 2
    assert (first.wait(timeout=30), third.wait(timeout=30)) == (0, 0)
    result = rig.run("stop_worker", NODE, check=False)
    assert result.returncode == 1 and NODE in result.stderr
    assert rig.run("stop_worker", "all").stdout == ""
    assert rig.run("stop_worker", check=False).returncode == 2


def test_new_workers_are_not_stopped_by_an_earlier_stop_all(rig: Rig) -> None:
    first = rig.start_worker()
    rig.run("stop_worker", "all")
    assert first.wait(timeout=30) == 0
    rig.start_worker()
    name = rig.submit("true")
    wait_until(lambda: rig.names("completed") == [name], "the job's end")


@pytest.mark.parametrize("file", ["STOP", "STOP_ALL"])
def test_a_stop_file_waits_for_the_running_job_and_leaves_the_others(rig: Rig, tmp_path: Path, file: str) -> None:
    worker = rig.start_worker()
    running = gated_job(rig, tmp_path / "gate")
    waiting = rig.submit("true")
    place = rig.home / "workers" / (f"{NODE}.{worker.pid}" if file == "STOP" else "")
    rig.shell(f"cd {place}\ntouch {file}")
    (tmp_path / "gate").write_text("on\n")
    assert worker.wait(timeout=30) == 0
    assert rig.names("completed") == [running]
    assert rig.names("unclaimed") == [waiting]
    assert rig.names("claimed") == []
    assert list((rig.home / "workers" / f"{NODE}.{worker.pid}" / "scratch").iterdir()) == []
    assert rig.show(running)["outcome"] == "succeeded"


@pytest.mark.parametrize(
    "words",
    [["start_worker"], ["start_worker", "--foreground"], ["start_worker", "--storage", "tape"], ["check_workers"]],
)
def test_no_worker_is_started_under_stop_all_and_it_is_said_what_to_remove(rig: Rig, words: list[str]) -> None:
    name = rig.submit("true")
    rig.shell("cd $JJ_HOME/workers; touch STOP_ALL")
    result = rig.run(*words, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    stop_all = rig.home / "workers" / "STOP_ALL"
    assert result.stderr == (
        f"{words[0]}: no worker was started: {stop_all} stops every worker, new ones too. Remove it first\n"
    )
    assert os.listdir(rig.home / "workers") == ["STOP_ALL"]
    assert rig.names("unclaimed") == [name]
    assert any("STOP_ALL" in line for line in rig.status()["warnings"])
    (rig.home / "workers" / "STOP_ALL").unlink()
    rig.run_until_idle()
    assert rig.names("completed") == [name]


@pytest.mark.parametrize("file", ["PAUSE", "PAUSE_ALL"])
def test_a_pause_file_holds_a_worker_until_it_is_removed(rig: Rig, tmp_path: Path, file: str) -> None:
    worker = rig.start_worker()
    name = f"{NODE}.{worker.pid}"
    path = rig.home / "workers" / (name if file == "PAUSE" else "") / file
    # A busy worker looks for orders before its next claim. One without a job might be in the midst of a claim.
    running = gated_job(rig, tmp_path / "gate")
    path.touch()
    job = rig.submit("true")
    (tmp_path / "gate").write_text("on\n")
    wait_until(lambda: rig.names("completed") == [running], "the running job's end")
    if file == "PAUSE":
        wait_until(lambda: say_at_rest(rig, name) == "paused", "the worker to be paused")
        assert rig.status()["workers"]["nodes"][0]["paused"] == 1
    else:
        # New workers start paused, and say so.
        second = rig.start_worker()
        for words in (["start_worker"], ["check_workers"]):
            said = rig.run(*words, JJ_MAX_WORKERS="4").stderr
            assert said == f"{words[0]}: {path} pauses every worker, new ones too, until it is removed\n"
        assert rig.run("check_workers", JJ_MAX_WORKERS="4").stderr == ""
        assert any("PAUSE_ALL" in line for line in rig.status()["warnings"])
        assert second.poll() is None
    assert rig.names("unclaimed") == [job]
    path.unlink()
    wait_until(lambda: rig.names("completed") == sorted([running, job]), "the job's end")


def test_pause_worker_and_unpause_worker(rig: Rig, tmp_path: Path) -> None:
    workers = [rig.start_worker(), rig.start_worker()]
    names = sorted(f"{NODE}.{worker.pid}" for worker in workers)
    gates = [tmp_path / f"gate of {name}" for name in names]
    running = sorted(gated_job(rig, gate) for gate in gates)
    result = rig.run("pause_worker", "rain", names[0], NODE, check=False)
    assert result.returncode == 1 and "rain" in result.stderr
    assert sorted(result.stdout.split()) == names
    for gate in gates:
        gate.write_text("on\n")
    wait_until(lambda: rig.names("completed") == running, "the running jobs' end")
    job = rig.submit("true")
    wait_until(lambda: {say_at_rest(rig, name) for name in names} == {"paused"}, "both to be paused")
    assert rig.names("unclaimed") == [job]
    rig.run("unpause_worker", "all")
    wait_until(lambda: len(rig.names("completed")) == 3, "the job's end")
    assert sorted(rig.run("unpause_worker", *names).stdout.split()) == names
    assert not (rig.home / "workers" / "PAUSE_ALL").exists()


def test_unpausing_under_pause_all_says_that_nothing_goes_on_and_what_to_remove(rig: Rig) -> None:
    pause_all = rig.home / "workers" / "PAUSE_ALL"
    worker = rig.start_worker()
    name = f"{NODE}.{worker.pid}"
    rig.run("pause_worker", name)
    pause_all.touch()
    for words in (["all"], [NODE], [name]):
        result = rig.run("unpause_worker", *words, check=False)
        assert (result.returncode, result.stdout) == (1, f"{name}\n")
        assert result.stderr == f"unpause_worker: nothing goes on: {pause_all} pauses every worker. Remove it too\n"
    calls = ("unpause_all()", f"unpause_node({NODE!r})", f"unpause_worker({name!r})")
    for call in calls:
        code = f"import jobjar\ntry:\n    jobjar.{call}\nexcept jobjar.JarError as error:\n    print(error)"
        assert "PAUSE_ALL pauses every worker" in rig.run("python", "-c", code).stdout
    assert not (rig.home / "workers" / name / "PAUSE").exists()
    pause_all.unlink()
    assert rig.run("unpause_worker", "all").stderr == ""
    job = rig.submit("true")
    wait_until(lambda: rig.names("completed") == [job], "the job's end")


def test_stop_comes_before_pause(rig: Rig) -> None:
    rig.shell("touch $JJ_HOME/workers/PAUSE_ALL")
    worker = rig.start_worker()
    job = rig.submit("true")
    rig.run("stop_worker", "all")
    assert worker.wait(timeout=30) == 0
    assert rig.names("unclaimed") == [job]


def test_check_workers_brings_the_node_up_to_its_number(rig: Rig) -> None:
    rig.environment["JJ_MAX_WORKERS"] = "2"
    started = rig.run("check_workers").stdout.split()
    assert len(started) == 2
    assert rig.run("check_workers").stdout == ""
    os.kill(worker_pid(started[0]), signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(worker_pid(started[0])), "the worker's death")
    [new] = rig.run("check_workers").stdout.split()
    assert new not in started
    assert rig.status()["workers"]["nodes"][0]["running"] == 2
    assert rig.run("check_workers", JJ_MAX_WORKERS="0").stdout == ""


def test_check_workers_keeps_ordinary_and_storage_workers_apart(rig: Rig) -> None:
    """What is an ordinary worker that asks for what is to be stored too, is one."""
    rig.environment.update(JJ_MAX_WORKERS="2", JJ_MAX_STORAGE_WORKERS="2")
    rig.run("start_worker", "STORAGE-tape")
    assert len(rig.run("check_workers", "--storage", "tape").stdout.split()) == 2
    assert len(rig.run("check_workers").stdout.split()) == 1
    assert len(rig.run("check_workers", "--storage", "disk", "tape", JJ_MAX_STORAGE_WORKERS="1").stdout.split()) == 1
    for words in ([], ["--storage", "tape"], ["--storage", "tape", "disk"]):
        assert rig.run("check_workers", *words, JJ_MAX_STORAGE_WORKERS="1").stdout == ""
    [storing] = rig.run("check_workers", "--storage", "tape", JJ_MAX_STORAGE_WORKERS="3").stdout.split()
    said = json.loads((rig.home / "workers" / storing / "worker.json").read_text())
    assert (said["is_storage"], said["categories"]) == (True, ["STORAGE-tape"])
    for wrong in (["tape"], ["--storage"]):
        assert rig.run("check_workers", *wrong, check=False).returncode == 2


def test_two_check_workers_at_once_start_exactly_the_number(rig: Rig) -> None:
    both = [
        subprocess.Popen(
            [BIN / "check_workers"],
            env={**rig.environment, "JJ_MAX_WORKERS": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    names = " ".join(output for output, _ in outputs).split()
    assert len(names) == len(set(names)) == 3
    assert rig.status()["workers"]["nodes"][0]["running"] == 3


def test_the_crontab_lines_run_with_nothing_but_their_own_environment(rig: Rig) -> None:
    """What cron does with each line: its PATH and JJ_HOME, /bin/sh, and no more."""
    for name in ("worker.cron", "recovery.cron"):
        text = (rig.home / "crontabs" / name).read_text()
        assert "@" not in text.replace("@reboot", "")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        settings = [line for line in lines if "=" in line.split()[0]]
        commands = [line.split(maxsplit=1 if line.startswith("@") else 5)[-1] for line in lines if line not in settings]
        assert f"JJ_HOME={rig.home}" in settings
        assert commands
        (rig.home / "config.ini").write_text("[Job Jar]\nJJ_MAX_WORKERS: 1\n")
        for command in commands:
            quick = command.replace("sleep 60", ":")
            result = subprocess.run(
                ["env", "-i", f"HOME={rig.home.parent}", *settings, "/bin/sh", "-c", quick],
                capture_output=True,
                text=True,
                timeout=60,
                cwd="/",
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), command
    assert rig.status()["workers"]["nodes"][0]["running"] == 1


def test_the_library_stops_pauses_and_unpauses(rig: Rig) -> None:
    workers = [rig.start_worker() for _ in range(3)]
    names = [f"{NODE}.{worker.pid}" for worker in workers]
    script = f"""
import jobjar
assert sorted(jobjar.running_workers()) == sorted({names!r})
assert sorted(jobjar.pause_all()) == sorted({names!r})
assert jobjar.unpause_worker({names[0]!r}) == [{names[0]!r}]
assert len(jobjar.pause_node({NODE!r})) == len(jobjar.unpause_node({NODE!r})) == len(jobjar.unpause_all()) == 3
assert jobjar.stop_worker({names[0]!r}) == [{names[0]!r}]
for function in (jobjar.stop_node, jobjar.stop_worker, jobjar.pause_worker, jobjar.unpause_node):
    try:
        function("rain")
        raise SystemExit("no error")
    except jobjar.JarError as error:
        assert "rain" in str(error)
jobjar.stop_all()
"""
    subprocess.run([sys.executable, "-c", script], env=rig.environment, check=True, timeout=60)
    assert [worker.wait(timeout=30) for worker in workers] == [0, 0, 0]
