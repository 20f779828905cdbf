"""Nodes for the tests of this directory; none is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hosts.nodes import Node
from tests.others import GroupRig, open_place
from tests.rig import Rig

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(rig: Rig) -> Iterator[MakeNode]:
    """Starts nodes: `make_node("rain")`. They are killed when the test is over."""
    made: list[Node] = []

    def make(name: str, has_booted: bool = True, **changes: str) -> Node:
        made.append(Node(rig, name, has_booted, **changes))
        return made[-1]

    yield make
    for node in made:
        node.kill()


@pytest.fixture
def group() -> Iterator[GroupRig]:
    with open_place() as place:
        made = GroupRig(place / "jar")
        yield made
        made.end_everything()
