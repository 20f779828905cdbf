"""A Slurm for the tests of this directory; none is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.rigs.slurm import Slurm, open_slurm, why_no_slurm
from tests.rig import Rig


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Two nodes, n1 and n2; the partition `short` has a time limit of a minute."""
    why = why_no_slurm()
    if why is not None:
        pytest.skip(why)
    with open_slurm() as running:
        running.run("scontrol", "create", "partition=short", "nodes=ALL", "maxtime=1")
        yield running


def prepare(rig: Rig, slurm: Slurm) -> Rig:
    """Have the programs of a jar find that Slurm."""
    rig.environment |= slurm.environment
    rig.environment["PATH"] = f"{rig.home}/bin:{rig.environment['PATH']}:/usr/sbin"
    return rig


@pytest.fixture
def cluster(rig: Rig, slurm: Slurm) -> Iterator[Rig]:
    """A jar whose programs find that Slurm; its pilots are cancelled in the end."""
    yield prepare(rig, slurm)
    slurm.run("scancel", "--full", "--me", check=False)
