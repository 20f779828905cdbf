"""An attempt that cannot be started: what the system refused, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.described_jobs import entries
from tests.others import NOBODY, GroupRig, open_place
from tests.rig import wait_until


@pytest.fixture
def group() -> Iterator[GroupRig]:
    with open_place() as place:
        made = GroupRig(place / "jar")
        yield made
        made.end_everything()


@pytest.mark.root
def test_a_job_for_which_no_process_can_be_started_names_the_remedy(group: GroupRig) -> None:
    """The kernel puts the job's file into that error, and a refused file has another remedy."""
    plain = group.submit("-p", "1", "echo ran")
    where = group.home.parent / "where"
    where.mkdir()
    os.chown(where, NOBODY, NOBODY)
    words = ("--dir", str(where), "--output", "out", "--error", "err", "echo ran > /dev/stderr")
    asking = group.run("jobjar", "submit", *words).stdout.strip()
    anyone = group.before
    group.before = [*anyone, "prlimit", "--nproc=1"]
    worker = group.start_worker()
    group.before = anyone

    def message(job: str) -> str | None:
        return next((attempt["message"] for attempt in group.show(job)["attempts"] if attempt["ended_at"]), None)

    assert wait_until(lambda: message(plain) and message(asking), "the end of both first attempts") == message(plain)
    assert message(plain) == (
        "cannot start a process: Resource temporarily unavailable; raise the limit of processes (`ulimit -u`), "
        "or have fewer workers on this node"
    )
    # What was made for it is gone, and no entry says otherwise.
    assert group.show(asking)["attempts"][0]["output_path"] is None and not list(where.iterdir())
    assert entries(group, "files") == []
    group.stop_worker(worker)
    assert group.show(plain)["state"] == "unclaimed" and not group.names("completed")
