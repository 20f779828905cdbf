"""`jobjar doctor --peer` on two nodes of one jar: it measures, it ends, and it leaves nothing, whoever is killed when."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.hosts.nodes import Node
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root]
MakeNode = Callable[..., Node]
PATIENCE_S = 120


def start(node: Node, *words: str) -> subprocess.Popen[str]:
    return node.start("jobjar", "doctor", "--peer", "--format", "json", *words)


def answer_of(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in errors, errors
    return json.loads(output), errors


def pair_findings(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in answer["findings"] if finding["group"].startswith("pair with ")}


def messages(rig: Rig) -> list[str]:
    try:
        return os.listdir(rig.home / "doctor" / "pair" / "messages")
    except FileNotFoundError:
        return []


def two_nodes(rig: Rig, make_node: MakeNode, names: tuple[str, str] = ("rain", "snow")) -> list[Node]:
    """Nodes with a ledger home each, as on a network disk."""
    return [
        make_node(name, JJ_LEDGER_HOME=str(rig.home.parent / f"home {number}")) for number, name in enumerate(names)
    ]


@pytest.mark.slow
def test_two_nodes_measure_each_other_and_both_print_it(rig: Rig, make_node: MakeNode) -> None:
    rig.submit("true")
    before = rig.names("unclaimed")
    rain, snow = two_nodes(rig, make_node)
    processes = [start(rain), start(snow)]
    answers = [answer_of(process)[0] for process in processes]
    here, there = (pair_findings(answer) for answer in answers)
    assert list(here) == list(there)
    for answer, found, peer in ((answers[0], here, "snow"), (answers[1], there, "rain")):
        assert answer["failure"] is None
        assert {finding["group"] for finding in found.values()} == {f"pair with {peer}"}
        assert [finding for finding in found.values() if finding["verdict"] in ("warning", "danger")] == []
        for race in ("rename races", "mkdir races", "O_EXCL races"):
            assert found[race]["measured"].startswith("50 rounds, one winner in each")
        assert found["host names"]["measured"] in ("rain here, snow there", "snow here, rain there")
        assert found["flock locks"]["measured"].startswith("excludes the other node")
        assert len([word for word in found if "seen here" in found[word]["measured"]]) == 7
    assert rig.names("unclaimed") == before
    assert "doctor" not in os.listdir(rig.home)


@pytest.mark.slow
def test_one_host_name_on_two_nodes_is_a_danger(rig: Rig, make_node: MakeNode) -> None:
    processes = [start(node) for node in two_nodes(rig, make_node, ("rain", "rain"))]
    for process in processes:
        finding = pair_findings(answer_of(process)[0])["host names"]
        assert process.returncode == 1
        assert finding["verdict"] == "danger" and "both are called rain" in finding["measured"]


def test_a_peer_that_never_comes_is_said_in_time(rig: Rig) -> None:
    result = rig.run("jobjar", "doctor", "--peer", "--timeout", "0.5", check=False)
    assert result.returncode == 1
    assert "no peer came within 0.5 s" in result.stderr and "compare JJ_HOME" in result.stderr
    assert "running a job" in result.stdout  # what one node can see is printed all the same
    assert "doctor" not in os.listdir(rig.home)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["rename-ready", "by-second-prepared"])
def test_a_peer_killed_in_the_middle_does_not_hold_the_other(rig: Rig, make_node: MakeNode, moment: str) -> None:
    rain, snow = two_nodes(rig, make_node)
    survivor = start(rain, "--timeout", "6")
    wait_until(lambda: (rig.home / "doctor" / "pair" / "messages").exists(), "the meeting")
    start(snow, "--timeout", "6")
    wait_until(lambda: any(name.startswith("second.") and name.endswith(moment) for name in messages(rig)), moment)
    snow.kill()
    answer, errors = answer_of(survivor)
    assert survivor.returncode == 1
    assert "did not" in answer["failure"] and answer["failure"] in errors
    assert pair_findings(answer) == {}
    assert "doctor" not in os.listdir(rig.home)


@pytest.mark.slow
def test_a_meeting_left_by_a_killed_doctor_is_taken_away_by_the_next(rig: Rig, make_node: MakeNode) -> None:
    rain, snow = two_nodes(rig, make_node)
    start(rain)
    wait_until(lambda: (rig.home / "doctor" / "pair" / "messages").exists(), "the meeting")
    rain.kill()
    answer, _ = answer_of(start(snow, "--timeout", "1"))
    assert "no peer came" in answer["failure"]
    assert "doctor" not in os.listdir(rig.home)
