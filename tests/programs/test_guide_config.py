"""The guide on configuration and on the order of work, and the world that a job sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, wait_until

NODE = os.uname().nodename
SAMPLE = """# Sample Job Jar configuration file

[Job Jar]

# Pause 5 minutes when no jobs are available
JJ_PAUSE_TIME: 300

# The check_workers program may start up to 4 workers on this node
JJ_MAX_WORKERS: 4

# The parent directory for the unclaimed, claimed, completed, and
# limbo directories
JJ_HOME: {home}

# The parent directory for worker-specific directories
JJ_WORKER_HOME: {workers}

# The categories workers will check for jobs
JJ_CATEGORIES: LINUX
"""


def config(rig: Rig, **changes: str) -> dict[str, dict[str, str]]:
    result = rig.run("jobjar", "config", "--format", "json", check=True, **changes)
    described: dict[str, dict[str, str]] = json.loads(result.stdout)
    return described


def order_of_work(rig: Rig, count: int, *categories: str, **changes: str) -> list[str]:
    """Run one worker until it has completed `count` jobs; their outputs in the order in which they were completed."""
    worker = rig.start_worker(*categories, **changes)
    wait_until(lambda: len(rig.names("completed")) >= count, "the jobs' end")
    rig.stop_worker(worker)
    script = "import jobjar, json; print(json.dumps([job.name for job in jobjar.completed_jobs()]))"
    result = subprocess.run(
        [sys.executable, "-c", script], env=rig.environment, check=True, capture_output=True, text=True, timeout=60
    )
    names: list[str] = json.loads(result.stdout)
    return [rig.run("jobjar", "output", name).stdout.strip() for name in names]


def test_the_sample_configuration_file(rig: Rig, tmp_path: Path) -> None:
    workers = tmp_path / "jobjar_workers"
    workers.mkdir(mode=0o700)
    (tmp_path / ".jobjar").mkdir()
    personal = tmp_path / ".jobjar" / "config.ini"
    personal.write_text(SAMPLE.format(home=rig.home, workers=workers))
    del rig.environment["JJ_HOME"]
    shown = config(rig)
    values = {name: shown[name]["value"] for name in shown}
    assert (values["JJ_PAUSE_TIME"], values["JJ_MAX_WORKERS"]) == ("300", "4")
    assert (values["JJ_HOME"], values["JJ_WORKER_HOME"]) == (str(rig.home), str(workers))
    assert values["JJ_CATEGORIES"] == "LINUX"
    assert shown["JJ_PAUSE_TIME"]["from"] == f"{personal}, line 6"
    name = rig.submit("-c", "LINUX", "echo $JJ_WORKER_DIR")
    rig.environment["JJ_HOME"] = str(rig.home)  # how the rig knows its processes
    rig.run_until_idle()
    assert rig.names("completed") == [name]
    assert rig.run("jobjar", "output", name).stdout.startswith(f"{workers}/{NODE}.")
    assert list((rig.home / "workers").iterdir()) == []
    rig.assert_clean()


def test_each_layer_overrides_the_one_below(rig: Rig, tmp_path: Path) -> None:
    assert config(rig)["JJ_PAUSE_TIME"] == {"value": "60", "from": "default"}
    (rig.home / "config.ini").write_text("; global\n[Job Jar]\nJJ_PAUSE_TIME = 11\nJJ_MAX_WORKERS=3\nJJ_RETRIES: 1\n")
    mine = tmp_path / "mine.ini"
    mine.write_text("[Job Jar]\nJJ_PAUSE_TIME: 12\nJJ_MAX_WORKERS: 5\n")
    shown = config(rig, JJ_CONFIG_FILE=str(mine), JJ_PAUSE_TIME="13")
    assert shown["JJ_PAUSE_TIME"] == {"value": "13", "from": "environment"}
    assert shown["JJ_MAX_WORKERS"] == {"value": "5", "from": f"{mine}, line 3"}
    assert shown["JJ_RETRIES"] == {"value": "1", "from": f"{rig.home}/config.ini, line 5"}
    assert shown["JJ_POLL_TIME"]["from"] == "default"
    assert config(rig)["JJ_MAX_WORKERS"]["value"] == "3"
    shown = json.loads(
        rig.run("jobjar", "config", "--home", str(rig.home), "--format", "json", JJ_HOME="/nowhere").stdout
    )
    assert shown["JJ_HOME"] == {"value": str(rig.home), "from": "option --home"}


def test_config_prints_every_setting_as_a_table_and_what_each_means(rig: Rig) -> None:
    names = set(config(rig))
    assert len(names) >= 17
    table = rig.run("jobjar", "config").stdout
    assert {line.split()[0] for line in table.splitlines()[1:]} == names
    meanings = rig.run("jobjar", "config", "--help-settings").stdout
    assert all(name in meanings for name in names)


def test_the_library_s_settings_override_files_and_environment(rig: Rig, tmp_path: Path) -> None:
    workers = tmp_path / "jobjar_workers"
    other = Rig(tmp_path / "other")
    script = f"""
import jobjar
assert jobjar.get_home() == {str(rig.home)!r}
jobjar.set_home({str(other.home)!r})
jobjar.set_worker_home({str(workers)!r})
jobjar.set_pause_time(500)
jobjar.set_categories(["FAST", "LINUX"])
assert jobjar.get_home() == {str(other.home)!r}
assert jobjar.get_worker_home() == {str(workers)!r}
assert jobjar.get_pause_time() == 500
assert jobjar.get_categories() == ["FAST", "LINUX"]
jobjar.submit_job("true")
for call, bad in ((jobjar.set_home, "here"), (jobjar.set_pause_time, -1), (jobjar.set_categories, ["a/b"])):
    try:
        call(bad)
        raise SystemExit("no error")
    except jobjar.JarError:
        pass
"""
    environment = {**rig.environment, "JJ_PAUSE_TIME": "7"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    assert len(other.names("unclaimed")) == 1
    assert rig.names("unclaimed") == []


def test_order_is_node_then_categories_in_order_then_uncategorized(rig: Rig) -> None:
    rig.submit("-p", "99", "echo", "none")
    rig.submit("-p", "50", "-c", "LINUX", "echo", "linux")
    rig.submit("-c", "FAST", "echo", "fast")
    rig.submit("-p", "-5", "-c", NODE, "echo", "node")
    other = rig.submit("-p", "100", "-c", "SUN", "echo", "sun")
    assert order_of_work(rig, 4, JJ_CATEGORIES="FAST, LINUX") == ["node", "fast", "linux", "none"]
    assert rig.names("unclaimed/SUN") == [other]


def test_categories_on_the_command_line_replace_those_of_the_settings(rig: Rig) -> None:
    rig.submit("-c", "LINUX", "echo", "linux")
    rig.submit("-c", "FAST", "echo", "fast")
    assert order_of_work(rig, 1, "LINUX", JJ_CATEGORIES="FAST") == ["linux"]


def test_within_a_category_priority_then_age_decide(rig: Rig) -> None:
    for priority, word in (("0", "c"), ("10", "a"), ("0", "d"), ("-3", "f"), ("10", "b"), ("0", "e"), ("-30", "g")):
        rig.submit("-p", priority, "echo", word)
    assert "".join(order_of_work(rig, 7)) == "abcdefg"


def test_a_hand_dropped_job_takes_its_turn_by_its_extension(rig: Rig) -> None:
    rig.submit("-p", "5", "echo", "middle")
    rig.drop("by_hand.15", "#!/bin/sh\necho first\n")
    rig.drop("by_hand.-15", "#!/bin/sh\necho last\n")
    assert order_of_work(rig, 3) == ["first", "middle", "last"]


@pytest.fixture
def world(rig: Rig, tmp_path: Path) -> dict[str, Any]:
    """What a job with category, priority and retries saw, as data."""
    probe = tmp_path / "probe"
    probe.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "import subprocess\n"
        "print(json.dumps({'environment': dict(os.environ), 'cwd': os.getcwd(), 'entries': os.listdir('.'),\n"
        "  'stdin': sys.stdin.read(), 'words': sys.argv[1:], 'session': os.getsid(0) == os.getpid(),\n"
        "  'link': os.path.realpath(os.path.join(os.environ['JJ_HOME'], 'claimed', os.environ['JJ_JOB'])),\n"
        "  'umask': os.umask(0)}))\n"
        "open('left', 'w').write('x')\n"
    )
    probe.chmod(0o755)
    name = rig.submit("-c", "LINUX", "-p", "7", "-i", "probe", "-f", str(probe))
    worker = rig.start_worker("LINUX", OWN_VARIABLE="kept", JJ_UMASK="027")
    rig.run("jobjar", "wait", name)
    rig.stop_worker(worker)
    seen: dict[str, Any] = json.loads(rig.run("jobjar", "output", name).stdout)
    return {**seen, "name": name, "worker": f"{NODE}.{worker.pid}", "shown": rig.show(name)}


def test_a_job_s_environment_directory_and_input(rig: Rig, world: dict[str, Any]) -> None:
    seen = world["environment"]
    worker_directory = rig.home / "workers" / world["worker"]
    expected = {
        "JJ_HOME": str(rig.home),
        "JJ_WORKER_HOME": str(rig.home / "workers"),
        "JJ_WORKER": world["worker"],
        "JJ_WORKER_DIR": str(worker_directory),
        "JJ_NODE": NODE,
        "JJ_JOB": world["name"],
        "JJ_JOB_ID": world["shown"]["id"],
        "JJ_JOB_FILE": str(worker_directory / "jobs" / "LINUX" / world["name"]),
        "JJ_SCRATCH_DIR": world["cwd"],
        "JJ_PRIORITY": "7",
        "JJ_CATEGORY": "LINUX",
        "JJ_ATTEMPT": "1",
        "JJ_SUBMITTER": rig.shell("id -un").stdout.strip(),
        "OWN_VARIABLE": "kept",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["PATH"].startswith(f"{rig.home}/bin:")
    assert seen["PATH"].endswith(rig.environment["PATH"])
    assert world["cwd"].startswith(f"{worker_directory}/scratch/")
    assert (world["entries"], world["stdin"], world["words"]) == ([], "", [])
    assert world["session"] is True
    assert world["umask"] == 0o027
    assert world["link"] == expected["JJ_JOB_FILE"]
    assert not Path(world["cwd"]).exists()
    assert rig.names("claimed") == []
    rig.assert_clean()
