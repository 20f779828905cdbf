"""What crashes left in claimed/ is tidied, and nothing that somebody uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.layout import Layout
from jobjar.recovery import tidy
from jobjar.roster import WorkerState, list_workers
from tests.rig import Rig, wait_until


def test_a_worker_that_begins_while_links_are_tidied_keeps_its_link(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = rig.open()
    (rig.home / "claimed" / ".gone.1").symlink_to("../workers/gone.1/jobs")
    (rig.home / "claimed" / "job.5").symlink_to(".gone.1/job.5")

    def list_before_one_begins(layout: Layout) -> list[WorkerState]:
        workers = list_workers(layout)
        rig.start_worker()
        wait_until(lambda: any("gone" not in link.name for link in links()))
        return workers

    def links() -> list[Path]:
        return sorted((rig.home / "claimed").iterdir())

    monkeypatch.setattr(tidy, "list_workers", list_before_one_begins)
    tidy.tidy_links(jar, lambda line: None)
    (link,) = links()
    assert link.name.startswith(".") and "gone" not in link.name
