"""What is old goes to the dated archive, and is found there; what is too old goes, and its history stays."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.layout import Layout
from jobjar.ledger.rebuild import rebuild_ledger
from jobjar.liveness import DEAD
from jobjar.nightly import archive
from jobjar.nightly.archive import Kept, date_of, keep_in_order
from jobjar.roster import read_worker
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.soft_lock import take_soft_lock
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.slow

# Days; a job of this test is older than that as soon as it has ended.
AT_ONCE = "0.000000001"
Night = Callable[..., Kept]


@pytest.fixture
def night(rig: Rig) -> Night:
    """One night's archiving, in this process, under changed settings."""

    def run(**changes: str) -> Kept:
        rig.environment.update({"JJ_ARCHIVE_AFTER": "0", "JJ_KEEP_COMPLETED": "0", "JJ_KEEP_WORKERS": "0", **changes})
        jar = rig.open()
        return keep_in_order(jar, now(jar))

    return run


def now(jar: Jar) -> float:
    return read_disk_clock(jar.layout.clock_file(node_name()))


def archived(rig: Rig, kind: str) -> list[Path]:
    return sorted(rig.home.glob(f"archive/*/{kind}/*"))


def assert_rebuild_changes_nothing(rig: Rig, *names: str) -> None:
    rig.assert_clean()
    before = [rig.show(name) for name in names]
    jar = rig.open()
    rebuild_ledger(jar.layout, jar.ledger_home)
    assert [rig.show(name) for name in names] == before
    rig.assert_clean()


def test_the_archive_may_be_read_by_whom_the_jar_may(rig: Rig, night: Night) -> None:
    rig.home.chmod(0o750)
    rig.submit("true")
    rig.run_until_idle()
    night(JJ_ARCHIVE_AFTER=AT_ONCE)
    [jobs] = rig.home.glob("archive/*/completed")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (jobs, jobs.parent, jobs.parent.parent)}
    assert modes == {0o777 & ~rig.open().umask} == {0o750}


def test_nothing_is_archived_before_its_time(rig: Rig, night: Night) -> None:
    rig.submit("true")
    rig.run_until_idle()
    kept = night(JJ_ARCHIVE_AFTER="1", JJ_KEEP_COMPLETED="1", JJ_KEEP_WORKERS="1")
    assert (kept.archived_jobs, kept.archived_workers, kept.deleted_jobs, kept.deleted_workers) == (0, 0, 0, 0)
    assert not (rig.home / "archive").exists()
    assert len(rig.names("completed")) == 1


def test_zero_days_is_never(rig: Rig, night: Night) -> None:
    rig.submit("true")
    rig.run_until_idle()
    kept = night()
    assert (kept.archived_jobs, kept.archived_workers) == (0, 0)


def test_completed_jobs_and_their_workers_are_archived_and_found_there(rig: Rig, night: Night) -> None:
    good = rig.submit("--category", "LINUX", "--id", "good", "echo hello")
    bad = rig.submit("exit 3")
    waiting = rig.submit("--category", "OTHER", "true")
    worker = rig.start_worker("LINUX")
    rig.run("jobjar", "wait", good, bad, check=False)
    rig.stop_worker(worker)
    kept = night(JJ_ARCHIVE_AFTER=AT_ONCE)
    assert (kept.archived_jobs, kept.archived_workers) == (2, 1)
    today = date_of(now(rig.open()))
    assert archived(rig, "completed") == sorted(
        rig.home / "archive" / today / "completed" / name for name in (good, bad)
    )
    assert rig.names("completed") == [] and rig.names("unclaimed/OTHER") == [waiting]
    shown = rig.show(good)
    assert (shown["state"], shown["outcome"], shown["category"]) == ("completed", "succeeded", "LINUX")
    assert shown["place"] == f"archive/{today}/completed/{good}"
    assert [move["reason"] for move in shown["moves"]] == ["submitted", "claimed", "completed", "archived"]
    assert rig.run("jobjar", "output", good).stdout == "hello\n"
    assert "/archive/" in shown["attempts"][0]["output_path"]
    assert rig.run("jobjar", "wait", good).returncode == 0
    assert rig.run("jobjar", "wait", bad, check=False).returncode == 1
    assert rig.status()["jobs"]["completed"] == 2
    assert rig.show(str(rig.home / shown["place"]))["id"] == shown["id"]
    assert_rebuild_changes_nothing(rig, good, bad, waiting)


def test_a_worker_that_runs_or_holds_a_job_stays(rig: Rig, night: Night) -> None:
    held = rig.submit("sleep 60")
    dead = rig.start_worker()
    running = rig.start_worker()
    wait_until(lambda: rig.show(held)["state"] == "claimed", "the claim")
    kept = night(JJ_ARCHIVE_AFTER=AT_ONCE, JJ_KEEP_WORKERS=AT_ONCE)
    assert (kept.archived_workers, kept.deleted_workers) == (0, 0)
    assert rig.show(held)["state"] == "claimed"
    for worker in (dead, running):
        worker.kill()
        worker.wait()
    kept = night(JJ_ARCHIVE_AFTER=AT_ONCE, JJ_KEEP_WORKERS=AT_ONCE)
    # Nobody has noted their deaths, and one holds a job: recovery first.
    assert (kept.archived_workers, kept.deleted_workers) == (0, 0)
    rig.run("recover_jobs")
    assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_workers == 2
    assert rig.show(held)["state"] == "unclaimed"
    rig.assert_clean()


def test_a_worker_s_age_is_that_of_its_last_sign(rig: Rig, night: Night) -> None:
    rig.submit("echo x")
    rig.run_until_idle()
    (directory,) = (path for path in (rig.home / "workers").iterdir() if path.is_dir())
    old = time.time() - 40 * 86400
    for name in ("worker.json", "worker.log"):
        if (directory / name).exists():
            os.utime(directory / name, (old, old))
    os.utime(directory / "heartbeat", (old + 20 * 86400,) * 2)
    assert night(JJ_ARCHIVE_AFTER="30").archived_workers == 0
    os.utime(directory / "heartbeat", (old, old))
    assert night(JJ_ARCHIVE_AFTER="30").archived_workers == 1
    assert night(JJ_ARCHIVE_AFTER="30", JJ_KEEP_WORKERS="50").deleted_workers == 0
    assert len(archived(rig, "workers")) == 1
    assert night(JJ_ARCHIVE_AFTER="30", JJ_KEEP_WORKERS="39").deleted_workers == 1
    assert archived(rig, "workers") == []
    rig.assert_clean()


def test_what_is_kept_no_longer_is_deleted_and_its_history_stays(rig: Rig, night: Night) -> None:
    names = [rig.submit("echo x"), rig.submit("exit 3")]
    rig.run_until_idle()
    kept = night(JJ_KEEP_COMPLETED=AT_ONCE)
    assert (kept.archived_jobs, kept.deleted_jobs, kept.deleted_workers) == (2, 2, 0)
    assert rig.names("completed") == [] and archived(rig, "completed") == []
    shown = rig.show(names[1])
    assert shown["state"] == "removed" and [a["outcome"] for a in shown["attempts"]] == ["failed"]
    assert len(shown["moves"]) == 4
    assert rig.run("jobjar", "output", names[0]).stdout == "x\n"
    assert_rebuild_changes_nothing(rig, *names)


def test_files_of_people_in_the_archive_keep_nothing_from_being_deleted(
    rig: Rig, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note beside the days, one beside the workers, and a day's directory that somebody put into a file (tar, say)."""
    rig.submit("true")
    rig.run_until_idle()
    night(JJ_ARCHIVE_AFTER=AT_ONCE)
    [day] = (rig.home / "archive").iterdir()
    notes = [rig.home / "archive" / "0-README", day / "workers" / "0-README", rig.home / "archive" / "1999-01-01"]
    for note in notes:
        note.write_text("somebody's")
    packed = rig.home / "archive" / "2000-01-01"
    packed.mkdir()
    for name in ("workers", "completed"):
        (packed / name).write_text("somebody's")
    monkeypatch.setattr(archive, "_day_of", lambda job: "2000-01-01")
    assert night(JJ_KEEP_COMPLETED=AT_ONCE).deleted_jobs == 0
    monkeypatch.undo()
    kept = night(JJ_KEEP_COMPLETED=AT_ONCE, JJ_KEEP_WORKERS=AT_ONCE)
    assert (kept.deleted_jobs, kept.deleted_workers) == (1, 1)
    assert [note.read_text() for note in [*notes, packed / "workers"]] == ["somebody's"] * 4


def test_days_that_are_empty_go_but_for_today(rig: Rig, night: Night) -> None:
    (rig.home / "archive/2001-01-01/completed").mkdir(parents=True)
    (rig.home / "archive/2001-01-02/workers/.doomed-x").mkdir(parents=True)
    (rig.home / "archive/2001-01-03/completed").mkdir(parents=True)
    (rig.home / "archive/2001-01-03/completed/x").write_text("")
    night(JJ_KEEP_WORKERS="1")
    assert sorted(path.name for path in (rig.home / "archive").iterdir()) == ["2001-01-03"]


def test_a_name_that_is_taken_in_the_archive_gets_another(rig: Rig, night: Night) -> None:
    for _ in range(2):
        rig.drop("by hand.3", "#!/bin/sh\n")
        rig.run_until_idle()
        assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_jobs == 1
    assert [path.name for path in archived(rig, "completed")] == ["by hand.3", "by hand~2.3"]
    rig.assert_clean()


def test_many_jobs_go_in_batches_and_all_of_them_go(rig: Rig, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BATCH", 3)
    names = [rig.submit("true") for _ in range(8)]
    rig.run_until_idle()
    kept = night(JJ_ARCHIVE_AFTER=AT_ONCE)
    assert kept.archived_jobs == 8
    assert [path.name for path in archived(rig, "completed")] == sorted(names)
    rig.assert_clean()
    assert night(JJ_KEEP_COMPLETED=AT_ONCE).deleted_jobs == 8
    rig.assert_clean()


def test_one_of_two_nodes_archives_and_one_that_died_is_replaced(rig: Rig, night: Night) -> None:
    rig.submit("true")
    rig.run_until_idle()
    jar = rig.open()
    assert take_soft_lock(jar.layout.archiving, lambda: now(jar))
    kept = night(JJ_ARCHIVE_AFTER=AT_ONCE)
    assert kept.skipped and kept.archived_jobs == 0
    os.utime(jar.layout.archiving, (time.time() - 3600,) * 2)
    assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_jobs == 1
    assert not os.path.exists(jar.layout.archiving)


def test_a_job_that_was_archived_and_not_journaled_keeps_all_that_is_known_of_it(rig: Rig) -> None:
    name = rig.submit("--category", "LINUX", "true")
    worker = rig.start_worker("LINUX")
    rig.run("jobjar", "wait", name)
    rig.stop_worker(worker)
    (rig.home / "archive/2026-01-01/completed").mkdir(parents=True)
    (rig.home / "completed" / name).rename(rig.home / "archive/2026-01-01/completed" / name)
    assert "archive/2026-01-01" in rig.run("recover_jobs").stdout
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"], shown["category"]) == ("completed", "succeeded", "LINUX")
    assert_rebuild_changes_nothing(rig, name)


def test_a_job_that_is_taken_out_of_the_archive_by_hand_runs_again(rig: Rig, night: Night) -> None:
    name = rig.submit("true")
    rig.run_until_idle()
    night(JJ_ARCHIVE_AFTER=AT_ONCE)
    archived(rig, "completed")[0].rename(rig.home / "unclaimed" / name)
    rig.run("recover_jobs")
    rig.run_until_idle()
    assert len(rig.show(name)["attempts"]) == 2
    rig.assert_clean()


def test_a_worker_that_got_a_predecessor_s_name_at_the_very_moment_keeps_its_directory(
    rig: Rig, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.submit("true")
    rig.run_until_idle()
    (directory,) = (path for path in (rig.home / "workers").iterdir() if path.is_dir())
    date_of = archive.date_of

    def come_round_again(now: float) -> str:
        text = (directory / "worker.json").read_text()
        uid = next(line for line in text.splitlines() if '"worker_id"' in line)
        (directory / "worker.json").write_text(text.replace(uid, ' "worker_id": "another",'))
        return date_of(now)

    monkeypatch.setattr(archive, "date_of", come_round_again)
    monkeypatch.setattr(archive, "_archive_jobs", lambda *arguments: 0)
    assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_workers == 0
    assert directory.is_dir() and archived(rig, "workers") == []


def test_an_archiving_that_is_killed_with_a_living_worker_s_directory_loses_no_job_and_is_undone(
    rig: Rig, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = rig.submit(f"touch {rig.home}/began; while ! test -e {rig.home}/go; do sleep 0.05; done")
    worker = rig.start_worker(JJ_POLL_TIME="0.1")
    wait_until((rig.home / "began").exists, "the job's start")
    (directory,) = (path for path in (rig.home / "workers").iterdir() if path.is_dir())
    state = read_worker(Layout(str(rig.home)), directory.name)
    assert state is not None
    earlier = state._replace(worker_id="an earlier one", ended=True, alive=DEAD)

    class Killed(BaseException):
        pass

    def be_killed(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(archive, "_old_workers", lambda *arguments: [earlier])
        patched.setattr(archive, "read_document", be_killed)
        with pytest.raises(Killed):
            night(JJ_ARCHIVE_AFTER=AT_ONCE)
    assert not directory.exists() and archived(rig, "workers") == []
    rig.run("recover_jobs")
    assert rig.show(name)["state"] == "claimed"
    monkeypatch.setattr(archive, "_archive_jobs", lambda *arguments: 0)
    night(JJ_ARCHIVE_AFTER=AT_ONCE)
    assert directory.is_dir()
    (rig.home / "go").touch()
    wait_until(lambda: rig.names("completed") == [name], "the end of the job")
    rig.stop_worker(worker)
    rig.run("recover_jobs")
    rig.assert_clean()
