"""Two ledger homes on one jar, as two nodes have where the jar is on a network disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from jobjar.jar import Jar, open_jar
from jobjar.ledger import database
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.rebuild import dump_ledger, fill_ledger
from jobjar.ledger.snapshot import publish_snapshot, snapshot_age_s
from jobjar.ledger.store import check_database, driver
from tests.rig import Rig


def open_at(rig: Rig, home: Path) -> Jar:
    jar = open_jar(environment={**rig.environment, "JJ_LEDGER_HOME": str(home)})
    rig._jars.append(jar)
    return jar


@pytest.fixture
def first(rig: Rig, tmp_path: Path) -> Jar:
    """A jar seen from a ledger home of its own, which knows of two jobs."""
    for _ in range(2):
        rig.submit("true", JJ_LEDGER_HOME=f"{tmp_path}/first")
    jar = open_at(rig, tmp_path / "first")
    fill_ledger(jar.ledger)
    return jar


def folded_lines(jar: Jar) -> int:
    """How many lines of journals the home's ledger still has to fold."""
    with jar.ledger.writing() as connection:
        return fold_journals(connection, jar.layout)


def add_future_migration(path: str) -> None:
    connection = driver.connect(path)
    connection.execute("INSERT INTO migration VALUES ('0099_future', 'x', 0)")
    connection.commit()
    connection.close()


def test_a_published_snapshot_says_what_the_ledger_says(first: Jar) -> None:
    assert snapshot_age_s(first.ledger) is None
    assert publish_snapshot(first.ledger)
    check_database(first.layout.snapshot)
    connection = driver.connect(f"file:{first.layout.snapshot}?immutable=1", uri=True)
    assert dump_ledger(connection) == dump_ledger(first.ledger.connection)
    connection.close()
    assert snapshot_age_s(first.ledger) is not None
    left = [name for name in os.listdir(first.layout.ledger) if "new" in name or name == "publishing"]
    assert left == []


def test_a_second_home_starts_from_the_snapshot_and_not_from_nothing(rig: Rig, first: Jar, tmp_path: Path) -> None:
    publish_snapshot(first.ledger)
    rig.submit("true", JJ_LEDGER_HOME=f"{tmp_path}/first")
    second = open_at(rig, tmp_path / "second")
    assert folded_lines(second) == 2  # only what came after the snapshot: submitted, moved
    folded_lines(first)
    assert dump_ledger(second.ledger.connection) == dump_ledger(first.ledger.connection)
    assert [name for name in os.listdir(tmp_path / "second") if "new" in name] == []


def test_without_a_snapshot_a_second_home_starts_from_the_journals(rig: Rig, first: Jar, tmp_path: Path) -> None:
    second = open_at(rig, tmp_path / "second")
    assert folded_lines(second) == 4
    assert dump_ledger(second.ledger.connection) == dump_ledger(first.ledger.connection)


@pytest.mark.parametrize("how", ["newer", "damaged", "half copied", "empty", "text"])
def test_a_snapshot_that_cannot_be_used_is_no_reason_not_to_start(
    rig: Rig, first: Jar, tmp_path: Path, how: str
) -> None:
    publish_snapshot(first.ledger)
    published = Path(first.layout.snapshot)
    content = published.read_bytes()
    if how == "newer":
        add_future_migration(first.layout.snapshot)
    elif how == "damaged":
        published.write_bytes(content[:5000] + b"\xa5" * 20000)
    elif how == "half copied":
        published.write_bytes(content[: len(content) // 2])
    else:
        published.write_bytes(b"" if how == "empty" else b"not a database\n" * 100)
    second = open_at(rig, tmp_path / "second")
    said: list[str] = []
    second.log = said.append
    folded_lines(second)
    assert [line for line in said if first.layout.snapshot in line] == said != []
    assert "Starting from the journals" in said[0]
    assert how != "newer" or "0099_future" in said[0]
    assert dump_ledger(second.ledger.connection) == dump_ledger(first.ledger.connection)
    assert [name for name in os.listdir(tmp_path / "second") if "new" in name] == []


def test_a_fresh_snapshot_is_not_published_again(first: Jar) -> None:
    assert publish_snapshot(first.ledger)
    inode = os.stat(first.layout.snapshot).st_ino
    assert not publish_snapshot(first.ledger)
    assert os.stat(first.layout.snapshot).st_ino == inode
    assert publish_snapshot(first.ledger, older_than_s=0)
    assert os.stat(first.layout.snapshot).st_ino != inode


def test_an_old_snapshot_is_published_again_when_something_happened_since(rig: Rig, first: Jar, tmp_path: Path) -> None:
    publish_snapshot(first.ledger)
    os.utime(first.layout.snapshot, (1000, 1000))
    assert not publish_snapshot(first.ledger), "an idle jar's snapshot is as good as a new one"
    rig.submit("true", JJ_LEDGER_HOME=f"{tmp_path}/first")
    folded_lines(first)
    assert publish_snapshot(first.ledger)


@pytest.mark.parametrize("how", ["newer", "damaged"])
def test_a_newer_snapshot_is_not_replaced_and_a_damaged_one_is(first: Jar, how: str) -> None:
    publish_snapshot(first.ledger)
    if how == "newer":
        add_future_migration(first.layout.snapshot)
    else:
        os.truncate(first.layout.snapshot, 10_000)
    os.utime(first.layout.snapshot, (1000, 1000))
    assert publish_snapshot(first.ledger) == (how == "damaged")


def test_a_snapshot_can_be_asked_with_read_permission_alone_by_any_program(first: Jar) -> None:
    publish_snapshot(first.ledger)
    with open(first.layout.snapshot, "rb") as file:
        assert file.read(20)[18:20] == b"\1\1"  # not in WAL mode, in which a reader would have to make two files
    connection = driver.connect(f"file:{first.layout.snapshot}?mode=ro", uri=True)
    before = sorted(os.listdir(first.layout.ledger))
    assert connection.execute("SELECT sum(waiting) FROM queue_report").fetchone() == (2,)
    assert sorted(os.listdir(first.layout.ledger)) == before
    connection.close()


def test_a_snapshot_can_be_read_by_those_who_can_read_its_directory(first: Jar) -> None:
    for mode, expected in ((0o700, 0o600), (0o750, 0o640), (0o755, 0o644), (0o2770, 0o660)):
        os.chmod(first.layout.ledger, mode)
        publish_snapshot(first.ledger, older_than_s=0)
        assert os.stat(first.layout.snapshot).st_mode & 0o777 == expected


def test_a_snapshot_is_written_in_steps_beside_which_a_heartbeat_and_other_writers_go_on(
    rig: Rig, first: Jar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_STEP_PAGES", 1)
    other = open_at(rig, tmp_path / "first")
    steps: list[int] = []

    def write() -> None:
        if len(steps) < 5:
            with other.ledger.writing(patience_s=0) as connection:
                connection.execute("INSERT INTO batch (name) VALUES (?)", (f"batch {len(steps)}",))
        steps.append(1)

    assert publish_snapshot(first.ledger, between_pieces=write)
    assert len(steps) >= 5
    check_database(first.layout.snapshot)
    connection = driver.connect(f"file:{first.layout.snapshot}?immutable=1", uri=True)
    # As of its beginning: what was written meanwhile is neither there in part nor makes it begin again.
    assert connection.execute("SELECT count(*) FROM batch").fetchone() == (0,)
    connection.close()


def test_while_another_node_publishes_nobody_else_does(first: Jar) -> None:
    os.mkdir(first.layout.publishing)
    assert not publish_snapshot(first.ledger)
    assert not os.path.exists(first.layout.snapshot)
    assert os.path.isdir(first.layout.publishing)


def test_the_role_of_a_node_that_died_while_it_published_is_taken_over(first: Jar) -> None:
    os.mkdir(first.layout.publishing)
    os.utime(first.layout.publishing, (1000, 1000))
    assert publish_snapshot(first.ledger)
    assert not os.path.exists(first.layout.publishing)


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one_and_gives_the_role_back(
    first: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_snapshot(first.ledger)
    before = Path(first.layout.snapshot).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            publish_snapshot(first.ledger, older_than_s=0)
    assert Path(first.layout.snapshot).read_bytes() == before
    assert [name for name in os.listdir(first.layout.ledger) if "new" in name or name == "publishing"] == []


def test_a_home_in_the_jar_itself_needs_no_snapshot(rig: Rig) -> None:
    jar = rig.open()
    fill_ledger(jar.ledger)
    assert not publish_snapshot(jar.ledger, older_than_s=0)
    assert not os.path.exists(jar.layout.snapshot)


@pytest.mark.slow
def test_two_homes_on_one_jar_come_to_the_same_ledger(rig: Rig, first: Jar, tmp_path: Path) -> None:
    rig.submit("-i", "fails", "exit 3", JJ_LEDGER_HOME=f"{tmp_path}/second")
    rig.drop("by_hand.5", "#!/bin/sh\ntrue\n", "LINUX")
    rig.run_until_idle("LINUX", JJ_LEDGER_HOME=f"{tmp_path}/second")
    assert len(rig.names("completed")) == 4
    second = open_at(rig, tmp_path / "second")
    for jar in (first, second):
        fill_ledger(jar.ledger)
    assert dump_ledger(first.ledger.connection) == dump_ledger(second.ledger.connection)
    journals = [name for name in os.listdir(first.layout.journals) if name.endswith(".jsonl")]
    assert len(journals) >= 2
    for home in ("first", "second"):
        rig.assert_clean(JJ_LEDGER_HOME=f"{tmp_path}/{home}")
    shutil.rmtree(tmp_path / "second")
    rig.assert_clean(JJ_LEDGER_HOME=f"{tmp_path}/first")


def test_a_snapshot_whose_damage_shows_later_costs_the_home_a_rebuild_and_no_job(
    rig: Rig, first: Jar, tmp_path: Path
) -> None:
    """What a start does not look at: a page in the middle."""
    publish_snapshot(first.ledger)
    with contextlib.closing(driver.connect(first.layout.snapshot)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'job_open'").fetchone()
    with open(first.layout.snapshot, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    said = rig.run_until_idle(JJ_LEDGER_HOME=f"{tmp_path}/second")
    assert "is damaged" in said and "rebuilding it" in said and "Starting from the journals" in said
    assert len(rig.names("completed")) == 2
    rig.assert_clean(JJ_LEDGER_HOME=f"{tmp_path}/second")


def test_a_rebuild_does_not_believe_the_snapshot(rig: Rig, first: Jar, tmp_path: Path) -> None:
    publish_snapshot(first.ledger)
    with contextlib.closing(driver.connect(first.layout.snapshot)) as connection:
        connection.execute("UPDATE job SET submitter = 'nobody'")
        connection.commit()
    rig.run("jobjar", "rebuild", JJ_LEDGER_HOME=f"{tmp_path}/second")
    rig.assert_clean(JJ_LEDGER_HOME=f"{tmp_path}/second")
