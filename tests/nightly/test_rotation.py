"""Journals that are rotated and compressed: nothing is lost, and nothing is folded twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobjar.jar import Jar
from jobjar.journal.read import Entry, journal_key, list_journals, open_to_read, read_journal
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.rebuild import dump_ledger, open_fresh_in_memory
from jobjar.nightly import rotation
from jobjar.nightly.rotation import compress_journals, rotate_journal
from jobjar.stages.submit import describe_command, submit
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.slow

_YEAR_S = 365 * 86400.0


@pytest.fixture
def jar(rig: Rig) -> Jar:
    return rig.open()


def entries_of(jar: Jar) -> list[Entry]:
    """All entries of all journals, compressed or not."""
    found = []
    for path in list_journals(jar.layout.journals):
        with open_to_read(path) as journal:
            found += [line.entry for line in read_journal(journal, 0) if line.entry is not None]
    return found


def journal_names(jar: Jar) -> list[str]:
    return sorted(name for name in os.listdir(jar.layout.journals))


def tells_of_an_end(path: Path) -> bool:
    return path.exists() and '"ended"' in path.read_text()


def make_old(jar: Jar) -> None:
    """Nobody has appended to any journal for two days."""
    for name in os.listdir(jar.layout.journals):
        os.utime(f"{jar.layout.journals}/{name}", (time.time() - 2 * 86400,) * 2)


def fold(jar: Jar) -> int:
    with jar.ledger.writing() as connection:
        return fold_journals(connection, jar.layout)


def assert_rebuild_is_equal(jar: Jar) -> None:
    fold(jar)
    rebuilt = open_fresh_in_memory(jar.layout)
    assert dump_ledger(rebuilt) == dump_ledger(jar.ledger.connection)
    rebuilt.close()


def test_a_small_journal_is_left_as_it_is(jar: Jar) -> None:
    submit(jar, describe_command("true"))
    before = journal_names(jar)
    assert rotate_journal(jar) is None
    assert compress_journals(jar, time.time() + _YEAR_S) == (0, 0)
    assert journal_names(jar) == before


def test_a_rotated_journal_keeps_its_name_and_another_goes_on(jar: Jar) -> None:
    submit(jar, describe_command("true"))
    first = os.path.basename(jar.journal.path)
    assert rotate_journal(jar, at_bytes=1) == first.removesuffix(".jsonl")
    submit(jar, describe_command("true"))
    second = os.path.basename(jar.journal.path)
    assert second == first.replace(".jsonl", "-2.jsonl")
    rotate_journal(jar, at_bytes=1)
    submit(jar, describe_command("true"))
    assert journal_names(jar) == sorted([first, second, first.replace(".jsonl", "-3.jsonl")])
    assert len(entries_of(jar)) == 6
    assert_rebuild_is_equal(jar)


def test_what_is_compressed_was_quiet_for_a_day_and_is_not_the_current_one(jar: Jar) -> None:
    submit(jar, describe_command("true"))
    rotate_journal(jar, at_bytes=1)
    submit(jar, describe_command("true"))
    before = journal_names(jar)
    assert compress_journals(jar, time.time()) == (0, 0)
    assert journal_names(jar) == before
    make_old(jar)
    assert compress_journals(jar, time.time()).journals == 1
    left = os.path.basename(jar.journal.path)
    (gone,) = set(before) - {left}
    assert gone not in journal_names(jar) and left in journal_names(jar)


def test_a_compressed_journal_has_every_entry_and_is_not_folded_again(jar: Jar) -> None:
    for _ in range(20):
        submit(jar, describe_command("true"))
    before = entries_of(jar)
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    packed = compress_journals(jar, time.time())
    assert packed.journals == 1 and packed.freed_bytes > 0
    assert entries_of(jar) == before
    assert fold(jar) == 0
    assert_rebuild_is_equal(jar)
    assert [name.endswith(".jsonl.gz") for name in journal_names(jar)] == [True]


def test_a_compressed_journal_that_was_folded_is_not_opened(jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(jar, describe_command("true"))
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    compress_journals(jar, time.time())
    (path,) = list_journals(jar.layout.journals)
    Path(path).write_bytes(b"not to be read")
    assert fold(jar) == 0


def test_a_ledger_that_had_folded_a_part_takes_the_rest_from_the_compressed_one(jar: Jar, tmp_path: Path) -> None:
    other = Jar(jar.settings)
    submit(jar, describe_command("true"))
    other.use_private_ledger()
    assert fold(other) == 2
    submit(jar, describe_command("true"))
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    assert compress_journals(jar, time.time()).journals == 1
    assert fold(other) == 2
    assert fold(other) == 0
    fold(jar)
    assert dump_ledger(other.ledger.connection) == dump_ledger(jar.ledger.connection)
    other.close()


def test_a_journal_that_is_there_as_both_is_read_once_and_compressed_again(
    jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(jar, describe_command("true"))
    before = entries_of(jar)
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    monkeypatch.setattr(os, "unlink", lambda path: None)
    compress_journals(jar, time.time())
    monkeypatch.undo()
    assert len([name for name in journal_names(jar) if name[0] != "."]) == 2
    assert entries_of(jar) == before
    assert_rebuild_is_equal(jar)
    assert compress_journals(jar, time.time()).journals == 1
    assert [name.endswith(".gz") for name in journal_names(jar) if name[0] != "."] == [True]
    assert entries_of(jar) == before


def test_what_is_appended_while_a_journal_is_compressed_keeps_it(jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Jar(jar.settings)
    submit(late, describe_command("true"))
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    check = rotation._check_compressed

    def append_and_check(*arguments: object) -> None:
        late.journal._write(b'\n{"entry":"late"}')
        check(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rotation, "_check_compressed", append_and_check)
    assert compress_journals(jar, time.time()) == (0, 0)
    assert [entry["entry"] for entry in entries_of(jar)].count("late") == 1
    assert not [name for name in journal_names(jar) if name.endswith(".gz")]
    late.close()


def test_what_is_appended_at_the_last_moment_goes_to_the_current_journal(
    jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Jar(jar.settings)
    submit(late, describe_command("true"))
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    unlink = os.unlink

    def append_and_unlink(path: str) -> None:
        if path == late.journal.path:
            late.journal._write(b'\n{"entry":"late"}')
        unlink(path)

    monkeypatch.setattr(os, "unlink", append_and_unlink)
    assert compress_journals(jar, time.time()).journals == 1
    assert [entry["entry"] for entry in entries_of(jar)].count("late") == 1
    late.close()


@pytest.mark.parametrize("has_to_be_made", [False, True])
def test_a_process_that_was_stopped_until_its_journal_was_compressed_writes_to_the_new_one(
    jar: Jar, monkeypatch: pytest.MonkeyPatch, has_to_be_made: bool
) -> None:
    stopped = Jar(jar.settings)
    submit(stopped, describe_command("true"))
    old_path = stopped.journal.path
    write = os.write

    def stop_and_write(descriptor: int, data: bytes) -> int:
        # Between the look at the writer file and the write: stopped for two days.
        monkeypatch.setattr(os, "write", write)
        rotate_journal(jar, at_bytes=1)
        make_old(jar)
        assert compress_journals(jar, time.time()).journals == 1
        stopped.journal._looked_at -= 2 * 86400
        if has_to_be_made:  # it was about to open the file
            descriptor = os.open(old_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            return write(descriptor, data)
        finally:
            if has_to_be_made:
                os.close(descriptor)

    monkeypatch.setattr(os, "write", stop_and_write)
    stopped.journal.append([{"entry": "late"}])
    assert stopped.journal.path != old_path
    assert Path(old_path).exists() == has_to_be_made
    assert [entry["entry"] for entry in entries_of(jar)].count("late") == 1
    assert len(entries_of(jar)) == 3
    assert_rebuild_is_equal(jar)
    make_old(jar)
    compress_journals(jar, time.time())
    assert not Path(old_path).exists()
    assert len(entries_of(jar)) == 3
    stopped.close()


def test_a_process_that_lives_long_goes_over_to_the_new_journal(rig: Rig, jar: Jar) -> None:
    """A library user that submits again and again, in one process."""
    script = "import jobjar, sys\nfor line in sys.stdin:\n    print(jobjar.submit_job('true'), flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], env=rig.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def submit_one() -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        names = [submit_one()]
        old = Path(jar.journal.path)
        rotate_journal(jar, at_bytes=1)
        new = Path(jar.journal.path)
        assert new != old

        def is_new_used() -> bool:
            names.append(submit_one())
            return new.exists()

        wait_until(is_new_used, "the first entry in the new journal")
        size = old.stat().st_size
        names.append(submit_one())
        assert old.stat().st_size == size
        process.stdin.close()
    rig.run_until_idle()
    assert set(rig.names("completed")) == set(names)
    rig.assert_clean()


def test_a_worker_goes_on_over_rotations_and_loses_nothing(rig: Rig, jar: Jar) -> None:
    worker = rig.start_worker()
    names = []
    for _ in range(3):
        for _ in range(5):
            names.append(rig.submit("true"))
        rotate_journal(jar, at_bytes=1)
        new = Path(jar.journal.path)
        rig.run("jobjar", "wait", "--all")
        # An idle worker follows too, within a second or so.
        while not tells_of_an_end(new):
            names.append(rig.submit("true"))
            rig.run("jobjar", "wait", "--all")
    rig.run("jobjar", "wait", "--all")
    make_old(jar)
    assert compress_journals(jar, time.time()).journals == 3
    rig.stop_worker(worker)
    assert set(rig.names("completed")) == set(names)
    ended = [entry for entry in entries_of(jar) if entry["entry"] == "ended"]
    assert len(ended) == len(names)
    rig.assert_clean()
    before = dump_ledger(jar.ledger.connection) if fold(jar) >= 0 else {}
    rig.run("jobjar", "rebuild")
    fold(jar)
    assert dump_ledger(jar.ledger.connection) == before


def test_a_torn_end_is_kept_and_noted_and_no_reason_to_look_again(rig: Rig, jar: Jar) -> None:
    submit(jar, describe_command("true"))
    with open(jar.journal.path, "ab") as file:
        file.write(b'\n{"entry":"mov')
    rotate_journal(jar, at_bytes=1)
    submit(jar, describe_command("true"))
    make_old(jar)
    fold(jar)
    assert compress_journals(jar, time.time()).journals == 1
    assert fold(jar) == 0
    result = rig.run("jobjar", "check")
    assert ".jsonl.gz: 14 bytes at its end are not an entry" in result.stderr
    assert {journal_key(path) for path in list_journals(jar.layout.journals)} == {
        os.path.basename(jar.journal.path),
        os.path.basename(jar.journal.path).replace("-2", ""),
    }


def lose_a_home(rig: Rig, home: Path) -> tuple[Path, str]:
    """A job is run by a home that is then removed; the journal that nobody names any more, and the job's name."""
    name = rig.submit("true", JJ_LEDGER_HOME=str(home))
    rig.run_until_idle(JJ_LEDGER_HOME=str(home))
    orphan = rig.home / "ledger" / "journals" / f"{(home / 'writer').read_text().split()[0]}.jsonl"
    shutil.rmtree(home)
    return orphan, name


def test_the_journal_of_a_lost_home_is_compressed_when_its_node_has_been_started_again(
    rig: Rig, jar: Jar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan, name = lose_a_home(rig, tmp_path / "home")
    fold(jar)
    make_old(jar)
    assert compress_journals(jar, time.time()).journals == 0  # the home's processes may live
    monkeypatch.setattr(rotation, "boot_id", lambda: "another boot")
    os.utime(orphan, (time.time() - 3600,) * 2)
    assert compress_journals(jar, time.time()).journals == 0  # what was on its way may still come
    make_old(jar)
    monkeypatch.setattr(rotation, "node_name", lambda: "snow")
    assert compress_journals(jar, time.time()).journals == 0  # snow knows nothing of the homes of this node
    monkeypatch.undo()
    monkeypatch.setattr(rotation, "boot_id", lambda: "another boot")
    assert compress_journals(jar, time.time()).journals == 1
    assert not orphan.exists()
    assert_rebuild_is_equal(jar)
    assert rig.show(name)["outcome"] == "succeeded"
    rig.assert_clean()


def test_another_home_s_journal_is_left_alone_where_it_is_not_known_which_start_of_the_node_it_is_of(
    rig: Rig, jar: Jar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.run_until_idle()  # a worker of the jar's own home, whose journal keeps its name over starts of the node
    monkeypatch.setattr(rotation, "boot_id", lambda: "another boot")
    rig.submit("true", JJ_LEDGER_HOME=str(tmp_path / "submits alone"))
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    other = rig.open()
    fold(other)
    make_old(other)
    assert compress_journals(other, time.time()).journals == 0
    assert not [journal for journal in journal_names(jar) if journal.endswith(".gz")]


@pytest.mark.root
def test_the_journal_of_a_lost_home_of_another_user_is_left_to_that_user(
    rig: Rig, jar: Jar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan, _ = lose_a_home(rig, tmp_path / "home")
    fold(jar)
    make_old(jar)
    monkeypatch.setattr(rotation, "boot_id", lambda: "another boot")
    os.chown(orphan, 65534, 65534)
    assert compress_journals(jar, time.time()).journals == 0


def test_a_reader_that_meets_the_moment_of_compression_finds_the_other_name(jar: Jar) -> None:
    submit(jar, describe_command("true"))
    (path,) = list_journals(jar.layout.journals)
    before = entries_of(jar)
    rotate_journal(jar, at_bytes=1)
    make_old(jar)
    compress_journals(jar, time.time())
    with open_to_read(path) as journal:
        assert [line.entry for line in read_journal(journal, 0)] == before
