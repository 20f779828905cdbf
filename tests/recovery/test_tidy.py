"""What crashes left in claimed/ is tidied, and nothing that somebody uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobjar.layout import Layout
from jobjar.liveness import mark
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


def test_what_killed_processes_were_writing_in_a_ledger_home_is_removed(rig: Rig, tmp_path: Path) -> None:
    home = tmp_path / "home"
    rig.environment["JJ_LEDGER_HOME"] = str(home)
    rig.run("recover_jobs")
    dead, elsewhere, alive = "4194303", "7+1", mark()
    names = ("looks", "told", "watch", "polled", "jar", "writer", "writer.0a1b2c3d", "ledger.db")

    def left() -> set[str]:
        return {path.name for path in home.iterdir() if path.name.endswith(".new")}

    for maker in (dead, elsewhere, alive):
        for name in names:
            (home / f"{name}.{maker}.0123456789abcdef.new").write_text("")
    (home / "mine.txt.new").write_text("")
    removed = rig.run("recover_jobs", "--verbose").stdout
    assert all(f"removed the half-written {name}.{dead}." in removed for name in names)
    assert {name.split(".0123")[0] for name in left()} == {
        "mine.txt.new",
        *(f"{name}.{maker}" for maker in (elsewhere, alive) for name in names),
    }
    for path in home.glob("*.new"):
        os.utime(path, (1, 1))  # a container that was killed days ago
    rig.run("recover_jobs")
    assert left() == {"mine.txt.new"}
