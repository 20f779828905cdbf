"""A Slurm for the tests of this directory; none is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pilots import slurm_rig
from tests.rig import Rig


@pytest.fixture(scope="module")
def slurm() -> Iterator[slurm_rig.Slurm]:
    why = slurm_rig.why_not()
    if why is not None:
        pytest.skip(why)
    running = slurm_rig.Slurm()
    yield running
    running.close()


@pytest.fixture
def cluster(rig: Rig, slurm: slurm_rig.Slurm) -> Iterator[Rig]:
    """A jar whose programs find that Slurm; its pilots are cancelled in the end."""
    rig.environment |= slurm.environment
    rig.environment["PATH"] = f"{rig.home}/bin:{slurm.environment['PATH']}"
    yield rig
    slurm.run("scancel", "--full", "--me")
