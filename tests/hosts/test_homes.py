"""Ledger homes outside their jar that are lost, half written, not theirs or full: no job is lost, and it is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobjar.errors import CannotUseJar, LedgerBusy, UnsafeLedgerHome
from jobjar.layout import Layout
from jobjar.ledger import home as module
from jobjar.ledger.home import LedgerHome, find_ledger_home
from tests.programs.spaces import SpaceRig
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.slow

Damage = Callable[[Path], None]


def writer_of(home: Path) -> str:
    return (home / "writer").read_text().split()[0]


def journals_of(rig: Rig) -> set[str]:
    return {path.name for path in (rig.home / "ledger" / "journals").glob("*.jsonl")}


def remove_all(home: Path) -> None:
    while home.exists():  # a worker may have made a file in it meanwhile
        shutil.rmtree(home, ignore_errors=True)


def empty_all(home: Path) -> None:
    for path in home.iterdir():
        path.write_bytes(b"")


def empty_what_sqlite_does_not_map(home: Path) -> None:
    """Not the shared memory: a process that has that mapped ends by SIGBUS when it is cut, as with any program."""
    for path in home.iterdir():
        if not path.name.endswith("-shm"):
            path.write_bytes(b"")


def leave_the_lock_alone(home: Path) -> None:
    for path in home.iterdir():
        if path.name != "lock":
            path.unlink()


def forget_the_writer(home: Path) -> None:
    (home / "writer").unlink()


def write_a_wrong_writer(home: Path) -> None:
    (home / "writer").write_text("../../../etc/passwd")


def cut_the_ledger(home: Path) -> None:
    os.truncate(home / "ledger.db", (home / "ledger.db").stat().st_size // 2)


def leave_a_wal_alone(home: Path) -> None:
    (home / "ledger.db").rename(home / "ledger.db-wal")


DAMAGES: tuple[Damage, ...] = (
    remove_all,
    empty_all,
    leave_the_lock_alone,
    forget_the_writer,
    write_a_wrong_writer,
    cut_the_ledger,
    leave_a_wal_alone,
)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_home_that_lost_something_between_two_workers_costs_nothing(rig: Rig, tmp_path: Path, damage: Damage) -> None:
    home = tmp_path / "home"
    rig.environment["JJ_LEDGER_HOME"] = str(home)
    names = [rig.submit("exit", "3")]
    rig.run_until_idle()
    rig.submit("-i", "second", "true")
    first = writer_of(home)
    damage(home)
    names += [rig.submit("-i", "third", "true")]
    said = rig.run_until_idle()
    assert len(rig.names("completed")) == 3
    assert ("is damaged" in said) == (damage is cut_the_ledger)
    # A new name is never one that another writer had: the old journal stays, and is folded.
    is_kept = damage in (cut_the_ledger, leave_a_wal_alone)
    assert (writer_of(home) == first) == is_kept
    assert f"{first}.jsonl" in journals_of(rig)
    assert rig.show(names[0])["exit_status"] == 3
    rig.assert_clean()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    (empty_what_sqlite_does_not_map, *(damage for damage in DAMAGES if damage is not empty_all)),
    ids=lambda damage: damage.__name__,
)
def test_a_home_that_loses_something_under_its_workers_costs_no_job(rig: Rig, tmp_path: Path, damage: Damage) -> None:
    home = tmp_path / "home"
    rig.environment["JJ_LEDGER_HOME"] = str(home)
    log = tmp_path / "log"
    workers = [rig.start_worker() for _ in range(2)]
    names = [rig.submit(f"echo $JJ_JOB >> {log}") for _ in range(4)]
    wait_until(lambda: len(rig.names("completed")) == 4, "the first jobs' end")
    damage(home)
    names += [rig.submit(f"echo $JJ_JOB >> {log}") for _ in range(6)]
    wait_until(lambda: len(rig.names("completed")) == 10, "all jobs' end", 60)
    for worker in workers:
        rig.stop_worker(worker)
    assert sorted(log.read_text().split()) == sorted(names)
    rig.run("recover_jobs")
    rig.assert_clean()


def test_processes_that_hold_a_removed_home_s_lock_and_new_ones_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    old, new = LedgerHome(str(path), True), LedgerHome(str(path), True)
    with old.locked():
        pass
    shutil.rmtree(path)
    with new.locked(), pytest.raises(LedgerBusy), old.locked(patience_s=0):
        raise AssertionError("two hold one lock")
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.root
@pytest.mark.parametrize("how", ["somebody else's", "link", "file", "open to all"])
def test_a_home_that_is_not_the_user_s_own_is_refused_by_workers_and_passed_over_by_who_looks(
    rig: Rig, tmp_path: Path, how: str
) -> None:
    name = rig.submit("true")
    home = tmp_path / "home"
    home.mkdir()
    if how == "somebody else's":
        os.chown(home, 65534, 65534)
    elif how == "open to all":
        home.chmod(0o1777)
    else:
        home.rmdir()
        home.symlink_to(rig.home / "software") if how == "link" else home.write_text("")
    for words in (["start_worker", "--foreground"], ["submit_job", "true"], ["recover_jobs"]):
        result = rig.run(*words, check=False, JJ_LEDGER_HOME=str(home))
        assert result.returncode == 1
        assert str(home) in result.stderr and "set JJ_LEDGER_HOME" in result.stderr
    assert rig.names("unclaimed") == [name]
    assert rig.names("limbo") == []
    assert rig.status(JJ_LEDGER_HOME=str(home))["jobs"]["unclaimed"] == 1
    assert name in rig.run("jobjar", "show", name, JJ_LEDGER_HOME=str(home)).stdout


def test_the_parent_of_homes_that_somebody_else_made_first_is_refused(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: path.startswith(str(tmp_path / "homes")))
    monkeypatch.setattr(module, "HOMES", str(tmp_path / "homes"))
    (tmp_path / "homes" / f"jobjar-{os.geteuid()}").mkdir(parents=True)
    (tmp_path / "homes" / f"jobjar-{os.geteuid()}").chmod(0o777)
    with pytest.raises(UnsafeLedgerHome, match="writable by others"):
        find_ledger_home(Layout(str(rig.home)))


def test_a_home_on_a_network_disk_is_refused(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: False)
    with pytest.raises(UnsafeLedgerHome, match=r"network disk.*set JJ_LEDGER_HOME"):
        find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/home")


def test_a_home_belongs_to_one_jar(tmp_path: Path) -> None:
    one, other = (Rig(tmp_path / name) for name in ("one", "other"))
    home = str(tmp_path / "home")
    one.submit("true", JJ_LEDGER_HOME=home)
    result = other.run("submit_job", "true", check=False, JJ_LEDGER_HOME=home)
    assert result.returncode == 1
    assert f"that of another jar, {one.home}" in result.stderr
    assert other.names("unclaimed") == []


def test_a_jar_that_was_copied_with_its_id_does_not_use_the_original_s_home(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: path.startswith(str(tmp_path / "homes")))
    monkeypatch.setattr(module, "HOMES", str(tmp_path / "homes"))
    (tmp_path / "homes").mkdir()
    shutil.copytree(rig.home, tmp_path / "copy", symlinks=True)
    original, copy = Layout(str(rig.home)), Layout(str(tmp_path / "copy"))
    assert find_ledger_home(original).path != find_ledger_home(copy).path
    named = f"{tmp_path}/homes/named"
    find_ledger_home(original, named)
    with pytest.raises(UnsafeLedgerHome, match=f"another jar, {rig.home}"):
        find_ledger_home(copy, named)


def test_a_jar_that_was_moved_keeps_the_home_that_is_named_for_it(rig: Rig, tmp_path: Path) -> None:
    named = f"{tmp_path}/named"
    find_ledger_home(Layout(str(rig.home)), named)
    rig.home.rename(tmp_path / "moved")
    moved = Layout(str(tmp_path / "moved"))
    assert find_ledger_home(moved, named).path == named
    (tmp_path / "moved").rename(rig.home)


def test_a_home_that_was_copied_with_its_machine_gets_a_journal_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "writer").write_text("other-machine.0123abcd")
    home = LedgerHome(str(tmp_path), True)
    name = home.journal_name()
    assert name.startswith(f"{os.uname().nodename}.")
    assert home.journal_name() == name


@pytest.fixture
def space(tmp_path: Path) -> Iterator[SpaceRig]:
    made = SpaceRig(tmp_path / "jar")
    yield made
    made.end_everything()


@pytest.mark.root
@pytest.mark.slow
def test_a_home_whose_disk_is_full_stops_no_worker_that_runs_and_no_new_one_starts_there(
    space: SpaceRig, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    space.mount_small_disk(disk, "2m")
    space.environment["JJ_LEDGER_HOME"] = f"{disk}/home"
    log = tmp_path / "worker.log"
    worker = space.start_logged_worker(log)
    names = [space.submit("exit", "3")]
    wait_until(lambda: len(space.names("completed")) == 1, "the first job's end")
    space.fill(disk)
    names += [space.submit("true") for _ in range(20)]
    wait_until(lambda: len(space.names("completed")) == 21, "the other jobs' end", 60)
    assert space.status()["jobs"]["completed"] == 21
    space.stop_worker(worker)
    filler = space.fill(disk)  # also what the worker's log of writes took
    refused = space.run("start_worker", "--foreground", check=False, JJ_LEDGER_HOME=f"{disk}/other")
    assert refused.returncode == 1
    assert "the disk is full" in refused.stderr and f"{disk}/other" in refused.stderr
    filler.unlink()
    space.run("recover_jobs")
    space.assert_clean()
    assert space.show(names[0])["exit_status"] == 3


def test_a_user_who_may_not_write_to_a_jar_on_a_network_disk_gets_no_home(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: False)
    monkeypatch.setattr(module, "HOMES", str(tmp_path / "homes"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotUseJar, match=r"cannot write to .*/ledger/journals"):
        find_ledger_home(Layout(str(rig.home)))
    assert not (tmp_path / "homes").exists()
