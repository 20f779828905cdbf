"""jobjar output -f on one node, of a job that runs on others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.follower import PROMPT, Follower
from tests.hosts.nodes import Node
from tests.rig import Rig

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]


def test_a_job_of_another_node_is_followed_and_so_is_the_next_node_s_attempt(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    rain, snow = make_node("rain"), make_node("snow")
    script = f"echo $JJ_NODE $JJ_ATTEMPT; {PROMPT.format(tmp_path, '$JJ_NODE')}; echo over"
    name = rig.submit("--id", "far", script)
    dead = rain.start_worker()
    follower = Follower(rig, tmp_path, name)
    follower.wait_for("rain 1\n")
    rain.kill()
    snow.start_worker()
    assert "1 jobs returned" in make_node("rain").run("recover_jobs").stdout
    follower.wait_for("snow 2\n")
    (tmp_path / "snow").touch()
    assert follower.end() == 0
    assert follower.out == "rain 1\nsnow 2\nover\n"
    assert f"far: attempt 1 on {dead}: stranded; it is to be run again" in follower.said
    snow.stop_workers()
