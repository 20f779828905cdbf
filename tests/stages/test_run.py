"""An attempt that cannot be started: what the system refused, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.others import GroupRig, open_place
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
    plain = group.submit("echo ran")
    anyone = group.before
    group.before = [*anyone, "prlimit", "--nproc=1"]
    worker = group.start_worker()
    group.before = anyone

    def message(job: str) -> str | None:
        return next((attempt["message"] for attempt in group.show(job)["attempts"] if attempt["ended_at"]), None)

    why = wait_until(lambda: message(plain), "the end of its first attempt")
    assert why == (
        "cannot start a process: Resource temporarily unavailable; raise the limit of processes (`ulimit -u`), "
        "or have fewer workers on this node"
    )
    group.stop_worker(worker)
    assert group.show(plain)["state"] == "unclaimed" and not group.names("completed")
