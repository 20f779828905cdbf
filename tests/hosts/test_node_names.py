"""Names of nodes that are not to be relied on: those of many, and those that change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.rig import Rig

pytestmark = pytest.mark.root

SAYS = "set JJ_NODE to a name of this node's own"


def called(rig: Rig, name: str) -> None:
    """Have the programs find that this machine has a name, with the processes that it has."""
    rig.before = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', name]


def start(rig: Rig, **changes: Any) -> tuple[str, str]:
    """A worker that ends at once: the node in its name, and what start_worker says."""
    result = rig.run("start_worker", "--foreground", "--idle-exit", "1ms", **changes)
    said = [line for line in result.stderr.splitlines() if line.startswith("start_worker: ")]
    return result.stdout.rpartition(".")[0], "".join(said)


def test_a_name_that_changes_or_is_that_of_many_is_told_and_jj_node_sets_it(rig: Rig) -> None:
    found = []
    for name in ("rain", "rain", "dhcp-17", "rain"):
        called(rig, name)
        node, said = start(rig)
        found.append((node, SAYS in said, "was called" in said))
    assert found == [
        ("rain", False, False),
        ("rain", False, False),
        ("dhcp-17", True, True),
        ("rain", True, True),
    ]
    doctor = json.loads(rig.run("jobjar", "doctor", "--format", "json", check=False).stdout)
    [finding] = [one for one in doctor["findings"] if one["check"] == "changes of its name"]
    assert finding["verdict"] == "warning" and "dhcp-17 since" in finding["measured"] and SAYS in finding["advice"]
    called(rig, "localhost")
    node, said = start(rig)
    assert node == "localhost" and "as others are" in said and SAYS in said
    assert start(rig, JJ_NODE="rain") == ("rain", "")
    rig.assert_clean()
