from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from jobjar import jar as jar_module
from jobjar.errors import BadAttribute, BadCategory, BadCommand, BadPriority, JarError, NotExecutable, SubmitFailed
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name, priority_in_name
from jobjar.journal.append import Journal
from jobjar.journal.read import read_journal
from jobjar.ledger.rebuild import dump_ledger, fill_ledger
from jobjar.stages import submit as module
from jobjar.stages.submit import CHUNK, Submission, describe_command, describe_file, submit, submit_all
from tests.rig import Rig


@pytest.fixture
def jar(rig: Rig) -> Jar:
    return rig.open()


def journaled(jar: Jar) -> list[tuple[str, str]]:
    """(kind, id) of each entry in this home's journal."""
    descriptor = os.open(jar.journal.path, os.O_RDONLY)
    try:
        return [(line.entry["entry"], line.entry["job"]) for line in read_journal(descriptor, 0) if line.entry]
    finally:
        os.close(descriptor)


def script(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 17])
def test_every_one_of_many_jobs_is_there_once_and_in_order(rig: Rig, jar: Jar, count: int) -> None:
    names = submit_all(jar, (describe_command(f"echo {number}") for number in range(count)))
    assert len(names) == len(set(names)) == count
    assert rig.names("unclaimed") == sorted(names)
    for number, name in enumerate(names):
        assert (rig.home / "unclaimed" / name).read_text() == f"#!/bin/sh -f\necho {number}\n"
    assert rig.names("limbo") == []
    entries = journaled(jar)
    for kind in ("submitted", "moved"):
        assert [uid for k, uid in entries if k == kind] == [id_in_name(name) for name in names]
    fill_ledger(jar.ledger)
    assert len(dump_ledger(jar.ledger.connection)["job"]) == count


def test_no_jobs_are_submitted_by_an_empty_list(rig: Rig, jar: Jar) -> None:
    assert submit_all(jar, []) == []
    assert rig.names("unclaimed") == []


def test_a_failure_in_the_middle_reports_those_that_were_submitted(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    file = script(tmp_path / "job")
    jobs = [describe_command("true") for _ in range(CHUNK + 3)]
    gone = describe_file(file)
    os.unlink(file)
    with pytest.raises(JarError) as caught:
        submit_all(jar, [*jobs, gone, *jobs])
    submitted = caught.value.fields["submitted"]
    assert isinstance(submitted, list)
    assert len(submitted) >= CHUNK
    assert rig.names("unclaimed") == sorted(submitted)
    assert rig.names("limbo") == []


def test_an_error_of_the_list_itself_comes_through_and_what_was_submitted_is_whole(rig: Rig, jar: Jar) -> None:
    def jobs() -> list[Submission]:
        return [describe_command(line) for line in ("true", " ")]

    with pytest.raises(BadCommand, match="it is empty"):
        submit_all(jar, (describe_command(line) for line in ["true"] * (CHUNK + 5) + [" "]))
    assert rig.names("limbo") == []
    with pytest.raises(BadCommand):
        jobs()


def test_a_journal_that_cannot_be_written_leaves_nothing_of_the_job(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, *words: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(SubmitFailed, match=r"the disk is full.*nothing of it is in the jar"):
            submit(jar, describe_command("true"))
    assert rig.names("limbo") == rig.names("unclaimed") == []


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_move_that_fails_leaves_those_before_it_and_nothing_of_those_after(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    moved: list[str] = []
    move: Any = vars(module)["move_under_own_name"]

    def fail_once(source: str, destination: str, **options: Any) -> None:
        if len(moved) == failing - 1:
            raise OSError(5, "Input/output error")
        move(source, destination, **options)
        moved.append(os.path.basename(destination))

    with monkeypatch.context() as patch:
        patch.setattr(module, "move_under_own_name", fail_once)
        with pytest.raises(SubmitFailed, match="Input/output error") as caught:
            submit_all(jar, [describe_command("true") for _ in range(4)])
    assert rig.names("limbo") == []
    assert rig.names("unclaimed") == sorted(moved)
    assert caught.value.fields["submitted"] == moved
    fill_ledger(jar.ledger)
    rows = dump_ledger(jar.ledger.connection)["job"]
    assert {row[1] for row in rows if row[2] == "unclaimed"} == set(moved)


def test_a_move_that_fails_hides_no_held_job_behind_it(rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held job is submitted by its entry, whatever becomes of the others."""

    def fail(source: str, destination: str, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    free, held = describe_command("true"), describe_command("true", attributes={"hold": True})
    with monkeypatch.context() as patch:
        patch.setattr(module, "move_under_own_name", fail)
        with pytest.raises(SubmitFailed, match="Input/output error") as caught:
            submit_all(jar, [free, held, free, held])
    assert rig.names("unclaimed") == [] and len(rig.names("limbo")) == 2
    assert sorted(caught.value.fields["submitted"]) == rig.names("limbo")  # type: ignore[call-overload]


def test_a_script_that_says_its_priority_and_category_alone_is_given_nothing(
    rig: Rig, jar: Jar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in its name and its place: its entry need not be synced, and a worker has nothing to prepare."""
    made: list[str] = []
    durable: list[bool] = []
    make: Any = vars(jar_module)["make_directory"]
    append: Any = Journal.append

    def note_directory(path: str, mode: int) -> None:
        made.append(path)
        make(path, mode)

    def note_append(self: Journal, entries: Any, is_durable: bool = False) -> None:
        durable.append(is_durable)
        append(self, entries, is_durable)

    monkeypatch.setattr(jar_module, "make_directory", note_directory)
    monkeypatch.setattr(Journal, "append", note_append)
    text = "#!/bin/sh\n#JJ priority = 7\n#JJ category = SOME\ntrue\n"
    name = submit(jar, describe_file(script(tmp_path / "job", text)))
    other = submit(jar, describe_file(script(tmp_path / "job", text), category="ELSE", identifier="mine"))
    assert rig.names("unclaimed/SOME") == [name] and name.endswith(".7")
    assert rig.names("unclaimed/ELSE") == [other] and other.endswith("-mine.7")
    assert made == [str(rig.home / "unclaimed" / "SOME"), str(rig.home / "unclaimed" / "ELSE")]
    assert True not in durable
    by_hand = rig.drop("by-hand.3", text, "SOME").name
    rig.run_until_idle("SOME", "ELSE")
    fill_ledger(jar.ledger)
    assert jar.ledger.connection.execute("select name, given from job where state != 'completed'").fetchall() == []
    given = dict(jar.ledger.connection.execute("select name, given from job").fetchall())
    assert given == {name: None, other: None, by_hand: None}


def test_words_are_joined_by_single_spaces_and_a_line_is_taken_as_it_is(rig: Rig, jar: Jar) -> None:
    for command, text in ((["echo", "a  b", "*"], "echo a  b *"), ("echo 'x  y'", "echo 'x  y'")):
        name = submit(jar, describe_command(command))
        assert (rig.home / "unclaimed" / name).read_text() == f"#!/bin/sh -f\n{text}\n"


def test_a_file_is_copied_whole_with_its_run_bits_and_stays_where_it_is(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"#!/bin/sh\n" + os.urandom(3 << 20))
    path.chmod(0o755)
    name = submit(jar, describe_file(str(path), 7, "LINUX", "mine"))
    copy = rig.home / "unclaimed/LINUX" / name
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o750
    assert priority_in_name(name) == 7
    assert "-mine." in name


def test_what_an_option_says_goes_before_what_the_file_says(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    file = script(tmp_path / "job", "#!/bin/sh\n#JJ retries = 2\n#JJ time_limit = 1h\n")
    submit(jar, describe_file(file, attributes={"retries": 5}))
    fill_ledger(jar.ledger)
    (row,) = dump_ledger(jar.ledger.connection)["job"]
    assert row[8:11] == (5, None, 3600.0)


def test_a_bad_attribute_in_the_file_is_refused_and_nothing_stays(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    file = script(tmp_path / "job", "#!/bin/sh\n#JJ colour = red\n")
    with pytest.raises(BadAttribute, match=f"{file}, line 2"):
        submit(jar, describe_file(file))
    assert rig.names("limbo") == rig.names("unclaimed") == []


def test_what_cannot_be_a_job_is_refused_before_anything_is_written(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    with pytest.raises(NotExecutable, match="not executable"):
        describe_file(script(tmp_path / "text", mode=0o644))
    with pytest.raises(NotExecutable, match="not a regular file"):
        describe_file(str(tmp_path))
    with pytest.raises(NotExecutable, match="No such file"):
        describe_file(f"{tmp_path}/none")
    with pytest.raises(BadCommand, match="NUL"):
        describe_command("a\0b")
    with pytest.raises(BadCategory):
        describe_command("true", category="../x")
    with pytest.raises(BadAttribute):
        describe_command("true", attributes={"colour": "red"})
    with pytest.raises(BadPriority):
        submit(jar, describe_command("true", priority=10**9))
    assert rig.names("limbo") == rig.names("unclaimed") == []


def test_a_submission_leaves_no_file_open(rig: Rig, jar: Jar, tmp_path: Path) -> None:
    submit(jar, describe_command("true"))
    before = len(os.listdir("/proc/self/fd"))
    submit_all(jar, [describe_command("true") for _ in range(20)])
    file = script(tmp_path / "job", "#!/bin/sh\n#JJ colour = red\n")
    with pytest.raises(BadAttribute):
        submit(jar, describe_file(file))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_changed_before_its_sync_is_repeated_is_not_submitted_with_the_attributes_it_had(
    jar: Jar, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path / "x", "#!/bin/sh\n#JJ retries = 1\n")
    sync, failed = os.fsync, list[int]()

    def fail_once(descriptor: int) -> None:
        if not failed:
            failed.append(descriptor)
            script(Path(path), "#!/bin/sh\n#JJ retries = 2\n")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(NotExecutable, match="it was changed while it was submitted"):
        submit(jar, describe_file(path))
    assert failed and rig.names("limbo") == rig.names("unclaimed") == []
    submit(jar, describe_file(path))
    assert len(rig.names("unclaimed")) == 1
