"""Workers in the allocations of a real Slurm."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.rigs.slurm import Slurm, open_slurm, why_no_slurm
from tests.rig import BIN, Rig, wait_until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    reason = why_no_slurm()
    if reason is not None:
        pytest.skip(f"Slurm: {reason}")
    with open_slurm() as rig:
        yield rig


def workers_of(rig: Rig) -> dict[str, dict[str, Any]]:
    found = {}
    for path in rig.home.glob("workers/*/worker.json"):
        said = json.loads(path.read_text())
        found[said["worker"]] = said
    return found


def test_a_worker_in_an_allocation_ends_before_it_and_its_own_option_wins(
    rig: Rig, slurm: Slurm, tmp_path: Path
) -> None:
    long = rig.run("jobjar", "submit", "--time-limit", "10m", "true").stdout.strip()
    short = rig.run("jobjar", "submit", "--time-limit", "5s", "true").stdout.strip()
    script = tmp_path / "worker.sh"
    script.write_text(f"#!/bin/sh\nexec {BIN}/start_worker --foreground --idle-exit 1s $OPTIONS\n")
    environment = {**rig.environment, "OPTIONS": ""}
    words = ["sbatch", "--parsable", "--time", "2", "-o", str(tmp_path / "%j.out")]
    before = time.time()
    job = slurm.run(*words, "-w", "n1", str(script), environment=environment)
    wait_until(lambda: any("ended_at" in one for one in workers_of(rig).values()), "the end of the worker")
    [(name, said)] = workers_of(rig).items()
    assert name.startswith("n1.") and said["end_reason"].endswith("(--idle-exit)")
    # Two minutes, without JJ_GRACE_TIME and a margin.
    assert before + 120 - 1 - 5 - 1 <= said["ends_at"] <= time.time() + 120
    assert rig.show(short)["state"] == "completed" and rig.show(long)["state"] == "unclaimed"
    wait_until(lambda: (tmp_path / f"{job}.out").read_text().strip().endswith("(--idle-exit)"), "its last word")
    environment["OPTIONS"] = "--for 1h"
    slurm.run(*words, "-w", "n2", str(script), environment=environment)
    wait_until(lambda: rig.show(long)["state"] == "completed", "the job that fits into --for")
    wait_until(lambda: all("ended_at" in one for one in workers_of(rig).values()), "the end of both")
    # Two nodes of one name are two nodes: none takes the other's worker for its own.
    environment |= {"JJ_NODE": "same", "OPTIONS": ""}
    for node in ("n1", "n2"):
        slurm.run(*words, "-w", node, str(script), environment=environment)
    wait_until(lambda: sum(one["node"] == "same" for one in workers_of(rig).values()) == 2, "both")
    wait_until(lambda: all("ended_at" in one for one in workers_of(rig).values()), "the end of both")
    ends = {one["end_reason"].rpartition(" ")[2] for one in workers_of(rig).values() if one["node"] == "same"}
    assert ends == {"(--idle-exit)"}
    rig.assert_clean()
