"""Fixtures of the tests that run the programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.spaces import SpaceRig


@pytest.fixture
def space(tmp_path: Path) -> Iterator[SpaceRig]:
    """A rig in a mount namespace of its own, with a jar on the ordinary disk."""
    made = SpaceRig(tmp_path / "jar")
    yield made
    made.end_everything()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SpaceRig]:
    """A rig whose jar lies on a disk of 4 MiB."""
    made = SpaceRig(tmp_path / "jar", make=False)
    made.mount_small_disk(tmp_path / "jar")
    made.run("jobjar", "init", str(tmp_path / "jar"))
    yield made
    made.end_everything()
