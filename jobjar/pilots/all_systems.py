"""The batch systems that pilots can be submitted into, by name."""

from __future__ import annotations

from jobjar.pilots.htcondor import HTCondor
from jobjar.pilots.lsf import Lsf
from jobjar.pilots.pbs import Pbs
from jobjar.pilots.sge import GridEngine
from jobjar.pilots.slurm import Slurm
from jobjar.pilots.systems import System

SYSTEMS: dict[str, System] = {system.name: system for system in (Slurm(), Pbs(), GridEngine(), HTCondor(), Lsf())}
