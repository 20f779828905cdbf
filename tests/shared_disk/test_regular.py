"""What lies in a jar in place of a file: a link that leads nowhere, a loop, a pipe, a directory. Nothing waits for it, nothing
spins, nothing is written through it; it is named, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.journal.append import Journal
from jobjar.publishing.underway import find_state
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.contents import BATCH, STATE, WORKER, Unreadable, parse_document
from jobjar.shared_disk.creating import open_shared, write_whole
from jobjar.shared_disk.owners import find_untrusted_above
from jobjar.shared_disk.regular import MOST_BYTES, UnfitFile, open_below, open_regular, read_regular
from tests.rig import Rig, wait_until

PUT: dict[str, Callable[[Path], None]] = {
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a directory": lambda path: path.mkdir(),
}


def replace(path: Path, what: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    PUT[what](path)


@pytest.mark.parametrize("what", PUT)
def test_what_is_no_regular_file_is_neither_read_nor_written_nor_waited_for(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    replace(path, what)
    for action in (
        lambda: read_regular(str(path)),
        lambda: open_regular(str(path), os.O_WRONLY),
        lambda: open_shared(str(path), os.O_RDWR),
    ):
        with pytest.raises(UnfitFile):
            action()
    assert sorted(os.listdir(tmp_path)) == ["x"]


def test_a_file_that_is_longer_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with open(path, "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UnfitFile, match="longer than 64 MiB"):
        read_regular(str(path))
    assert read_regular(str(path), size=3) == b"\0\0\0"


def test_a_file_that_has_another_name_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    os.link(tmp_path / "victim", tmp_path / "x")
    with pytest.raises(UnfitFile, match="another name"):
        open_shared(str(tmp_path / "x"), os.O_RDWR)


def test_a_link_in_place_of_a_file_that_is_written_whole_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "x").symlink_to("victim")
    write_whole(str(tmp_path / "x"), b"new", 0o640)
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["victim", "x"]


def test_names_that_lead_away_and_links_below_a_directory_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "top" / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "top" / "away").symlink_to("..")
    (tmp_path / "top" / "a" / "link").symlink_to("../../secret")
    for names in (("..", "secret"), ("a", "../../secret"), ("away", "secret"), ("a", "link"), ("a", "")):
        with pytest.raises(UnfitFile):
            open_below(str(tmp_path / "top"), *names)


def test_the_disk_s_clock_is_read_also_where_something_lies_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    os.utime(tmp_path / "victim", (5, 5))
    (tmp_path / "clock").symlink_to("victim")
    assert read_disk_clock(str(tmp_path / "clock")) > 5
    assert (tmp_path / "victim").stat().st_mtime == 5
    assert sorted(os.listdir(tmp_path)) == ["clock", "victim"]


# Programs

SUBJECTS = {
    "clock": lambda rig: rig.home / f"ledger/clock.{os.uname().nodename}",
    "writer": lambda rig: rig.home / "ledger/writer",
    "lock": lambda rig: rig.home / "ledger/lock",
    "polled": lambda rig: rig.home / "ledger/polled",
    "own journal": lambda rig: next(iter((rig.home / "ledger/journals").glob("*.jsonl"))),
    "another journal": lambda rig: rig.home / "ledger/journals/snow.1a2b3c4d.jsonl",
    "a compressed journal": lambda rig: rig.home / "ledger/journals/snow.1a2b3c4d.77.jsonl.gz",
    "a limit's count": lambda rig: rig.home / "limits/category.LINUX/count",
    "a batch": lambda rig: rig.home / "batches/wc/batch.json",
    "worker.json": lambda rig: rig.home / "workers/snow.7/worker.json",
    "an archived day": lambda rig: rig.home / "archive/2026-01-02",
}


@pytest.mark.parametrize("what", ["a link that leads nowhere", "a pipe", "a loop of links"])
@pytest.mark.parametrize("where", SUBJECTS)
def test_programs_go_on_where_something_else_lies_in_place_of_a_file(rig: Rig, where: str, what: str) -> None:
    first = rig.submit("exit", "3")
    rig.run_until_idle()
    path = SUBJECTS[where](rig)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, what)
    second = rig.submit("true")
    rig.run_until_idle()
    rig.run("recover_jobs", check=where != "lock")  # without its lock a ledger is not written to
    rig.run("jobjar", "check", check=where not in ("lock", "own journal", "a limit's count"))
    rig.run("system_status")
    assert rig.names("completed") == sorted([first, second]), "the rig's programs have an end, and no traceback"
    assert not (path.parent / "nowhere").exists()


@pytest.mark.parametrize("what", PUT)
def test_a_state_that_is_no_file_is_none(rig: Rig, what: str) -> None:
    path = rig.home / "underway/j/1.w/state.json"
    path.parent.mkdir(parents=True)
    replace(path, what)
    layout = rig.open().layout
    assert find_state(layout, "j") is None
    shutil.rmtree(rig.home / "underway/j")
    (rig.home / "underway/j").symlink_to("j")
    assert find_state(layout, "j") is None


def test_what_is_passed_over_is_named_once(rig: Rig) -> None:
    journal = rig.home / "ledger/journals/snow.1a2b3c4d.jsonl"
    os.mkfifo(journal)
    rig.submit("true")
    result = rig.run("recover_jobs")
    assert result.stderr.count(f"{journal}: it is a pipe, where a file belongs; remove it; passed over") == 1


def test_a_journal_that_is_a_link_is_not_appended_to_and_the_home_takes_another(rig: Rig, tmp_path: Path) -> None:
    rig.submit("true")
    [journal] = (rig.home / "ledger/journals").glob("*.jsonl")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    journal.unlink()
    journal.symlink_to(victim)
    name = rig.submit("exit", "3")
    rig.run_until_idle()
    assert victim.read_text() == "mine"
    assert rig.show(name)["exit_status"] == 3
    assert len(list((rig.home / "ledger/journals").glob("*.jsonl"))) == 2


# Journals


def test_a_line_without_an_end_is_torn_and_what_follows_is_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobjar.journal.read

    monkeypatch.setattr(jobjar.journal.read, "_LONGEST_LINE", 3 << 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n{"entry":"a"}\n' + b"x" * (9 << 20) + b'\n{"entry":"b"}')
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lines = list(jobjar.journal.read.read_journal(descriptor, 0))
    finally:
        os.close(descriptor)
    assert [line.entry and line.entry["entry"] for line in lines] == ["a", None, "b"]
    assert lines[-1].end == path.stat().st_size


@pytest.mark.parametrize("output", ["../../../secret", "..", "a/b", "/etc/passwd", ""])
def test_an_output_file_that_leads_away_is_not_printed(rig: Rig, output: str) -> None:
    (rig.home / "secret").write_text("secret")
    (rig.home / "workers/snow.7/output").mkdir(parents=True)
    name = rig.submit("true")
    uid = rig.show(name)["id"]
    journal = Journal(str(rig.home / "ledger/journals/snow.1a2b3c4d.jsonl"))
    attempt = {"job": uid, "attempt": 1, "worker": "snow.7", "worker_uid": "w"}
    journal.append(
        [{**attempt, "entry": "ended", "ended_at": 5.0, "final": False, "outcome": "failed", "output_file": output}]
    )
    journal.close()
    result = rig.run("jobjar", "output", name, check=False)
    assert "secret" not in result.stdout and "root:" not in result.stdout


def test_an_output_file_that_is_a_link_is_not_followed(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    name = rig.submit("echo", "hello")
    rig.run_until_idle()
    path = Path(rig.show(name)["attempts"][0]["output_path"])
    assert rig.run("jobjar", "output", name).stdout == "hello\n"
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    result = rig.run("jobjar", "output", name, check=False)
    assert (result.returncode, result.stdout) == (1, "") and "symbolic link" in result.stderr


@pytest.mark.parametrize("line", [rb'"from":"unclaimed/\x"', b'"from":"unclaimed/\xff"', rb'"from":"unclaimed/\ud8"'])
def test_a_torn_claim_in_the_journal_of_a_worker_s_home_does_not_end_the_worker(rig: Rig, line: bytes) -> None:
    rig.submit("true")
    [journal] = (rig.home / "ledger/journals").glob("*.jsonl")
    worker = rig.start_worker()
    wait_until(lambda: rig.names("completed"), "the first job's end")
    with open(journal, "ab") as file:
        file.write(b'\n{"entry":"moved",' + line + b"}")
    rig.submit("true")
    wait_until(lambda: len(rig.names("completed")) == 2, "the second job's end")
    rig.stop_worker(worker)


# Documents


def test_a_change_of_a_batch_that_says_nothing_ends_no_recovery(rig: Rig) -> None:
    (rig.home / "batches/wc/change").mkdir(parents=True)
    (rig.home / "batches/wc/change/abc.json").write_text("{}")
    name = rig.submit("true")
    result = rig.run("recover_jobs")
    assert "batches/wc/change/abc.json" in result.stderr + result.stdout
    rig.run_until_idle()
    assert rig.names("completed") == [name]


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("document", [WORKER, BATCH, STATE])
@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", DEEP, b"{}", b'{"a": 1' + b"0" * 5000 + b"}"])
def test_what_is_no_document_is_unreadable(document: object, data: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_document(data, document)  # type: ignore[arg-type]


GOOD_WORKER = {
    "worker": "rain.7",
    "worker_id": "abc",
    "node": "rain",
    "pid": 7,
    "boot_id": "b",
    "process_started": 5.0,
    "started_at": 1000.5,
    "pid_namespace": "4026531836",
    "is_storage": False,
    "version": "0.1.0",
    "given_up_at": None,
    "pauses_until": 0.0,
    "failures_in_a_row": 2,
    "what is not known": [{"a": None}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 0},
        {"pid_namespace": 4026531836},
        {"given_up_at": "now"},
        {"pauses_until": float("inf")},
        {"failures_in_a_row": -1},
        {"pid": "7"},
        {"pid": 1 << 40},
        {"worker": "../x"},
        {"worker_id": ".."},
        {"started_at": "noon"},
        {"started_at": float("inf")},
        {"started_at": float("nan")},
        {"started_at": 1e300},
        {"ended_at": -1},
        {"categories": "LINUX"},
        {"categories": ["a/b"]},
        {"user": "\ud800"},
        {"more": json.loads("[" * 20 + "]" * 20)},
    ],
)
def test_a_worker_that_cannot_be_is_none_and_unknown_fields_are_no_fault(change: dict[str, object]) -> None:
    assert parse_document(json.dumps(GOOD_WORKER).encode(), WORKER) == GOOD_WORKER
    with pytest.raises(Unreadable):
        parse_document(json.dumps({**GOOD_WORKER, **change}).encode(), WORKER)


def test_a_directory_that_others_could_replace_is_not_trusted(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "home").mkdir()
    open_to_all.chmod(0o777)
    assert "writable by others" in str(find_untrusted_above(str(open_to_all / "home")))
    open_to_all.chmod(0o1777)
    assert find_untrusted_above(str(open_to_all / "home")) is None
