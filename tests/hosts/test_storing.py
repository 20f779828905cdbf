"""Outputs that one host publishes on MooseFS and two hosts store at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.rigs.moosefs import MooseFS, why_no_moosefs
from tests.hosts.rigs.space import Space

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.moosefs]
FILES = 20

PUBLISH = """
import os, sys
from jobjar.publishing.outputs import publish
from jobjar.publishing.underway import STORE, State, attempt_directory
from jobjar.layout import Layout
home, round = sys.argv[1:]
layout = Layout(home)
work = f"{home}/work{round}"
for number in range(int(sys.stdin.readline())):
    os.makedirs(f"{work}/output/d{number % 3}", exist_ok=True)
    with open(f"{work}/output/d{number % 3}/{number}", "w") as file:
        file.write(f"{number} of round {round}" * 1000)
state = State(STORE, "job" + round, "the.job", 1, "rain.7", "w0rker", "")
publish(attempt_directory(layout, state.job, 1, "w0rker"), work, state)
"""
STORE = """
import json, sys
from jobjar.publishing.outputs import finish_publishing
from jobjar.publishing.underway import find_state, state_directory
from jobjar.publishing.storage import store_file
from jobjar.layout import Layout
home, round = sys.argv[1:]
layout = Layout(home)
print("ready", flush=True)
sys.stdin.readline()
state = find_state(layout, "job" + round)
published = finish_publishing(state_directory(layout, state))
stored = [store_file(f"{published}/{file.name}", file, f"{home}/store", "run/" + round) for file in state.files]
print(json.dumps([record["storage_hfn"].partition(":")[2] for record in stored]))
"""


@pytest.fixture
def moosefs(tmp_path: Path) -> Iterator[MooseFS]:
    reason = why_no_moosefs()
    if reason is not None:
        pytest.skip(f"MooseFS: {reason}")
    rig = MooseFS(tmp_path / "moosefs")
    try:
        rig.start_host("rain")
        rig.start_host("snow")
        yield rig
    finally:
        rig.close()


def start(host: Space, script: str, home: Path, round: int) -> subprocess.Popen[str]:
    return host.start(sys.executable, "-c", script, str(home), str(round), input=subprocess.PIPE)


def end(process: subprocess.Popen[str], line: str) -> str:
    said, complaint = process.communicate(line, timeout=120)
    assert process.returncode == 0, complaint
    return said


def test_what_one_host_published_two_hosts_store_at_once_as_one_file_each(moosefs: MooseFS) -> None:
    rain, snow = moosefs.hosts["rain"], moosefs.hosts["snow"]
    home = moosefs.mount_point / "jar"
    rain.run("mkdir", "-p", f"{home}/underway", f"{home}/store")
    for round in range(3):
        handlers = [start(host, STORE, home, round) for host in (rain, snow)]
        for handler in handlers:
            assert handler.stdout is not None and handler.stdout.readline() == "ready\n"
        end(start(rain, PUBLISH, home, round), f"{FILES}\n")
        for handler in handlers:
            assert handler.stdin is not None
            handler.stdin.write("go\n")
            handler.stdin.flush()
        stored = [json.loads(end(handler, "")) for handler in handlers]
        assert stored[0] == stored[1]
        assert sorted(snow.run("find", f"{home}/store/run/{round}", "-type", "f").split()) == sorted(stored[0])
        assert len(stored[0]) == FILES
        assert snow.run("find", f"{home}/store/run/{round}", "-type", "f", "-links", "+1") == ""
