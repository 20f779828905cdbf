from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jobjar.journal.append import Journal
from jobjar.journal.read import Entry
from jobjar.layout import Layout
from jobjar.ledger.apply import apply_entries, apply_entry
from jobjar.ledger.apply_others import HISTORY_LENGTH
from jobjar.ledger.ask_claiming import final_attempt
from jobjar.ledger.counts import count_minutes, count_new_jobs, find_wrong_counts
from jobjar.ledger.fold import fold_journal, fold_journals, journal_paths
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import dump_ledger as dump_tables, fill_ledger
from jobjar.ledger.reconcile_jar import reconcile
from jobjar.ledger.store import driver
from tests import folding
from tests.histories import histories
from tests.rig import Rig

Dump = dict[str, list[tuple[Any, ...]]]
CLAIM = {
    "entry": "moved",
    "job": "abcdefghjkm1",
    "number": 2,
    "from": "unclaimed/x.5",
    "to": "workers/rain.7/jobs/x.5",
    "moved_at": 11.0,
    "reason": "claimed",
    "by": "rain.7",
    "worker_uid": "wkr1",
    "attempt": 1,
}
SUBMITTED = {
    "entry": "submitted",
    "job": "abcdefghjkm1",
    "name": "x.5",
    "category": "",
    "submitter": "ann",
    "submitted_at": 10.0,
    "retries": 3,
}
INTO_UNCLAIMED = {
    "entry": "moved",
    "job": "abcdefghjkm1",
    "number": 1,
    "from": "limbo/x.5",
    "to": "unclaimed/x.5",
    "moved_at": 10.0,
    "reason": "submitted",
    "by": "ann",
}
COMPLETED = {
    **CLAIM,
    "number": 3,
    "from": CLAIM["to"],
    "to": "completed/x.5",
    "moved_at": 12.0,
    "reason": "completed",
    "category": "",
}
ENDED = {
    "entry": "ended",
    "job": "abcdefghjkm1",
    "attempt": 1,
    "worker": "rain.7",
    "worker_uid": "wkr1",
    "ended_at": 12.0,
    "final": True,
    "outcome": "succeeded",
    "exit_status": 0,
}


def new_ledger() -> Any:
    connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    return connection


def dump_ledger(connection: Any) -> Dump:
    """What a ledger says, whose counts are what its rows come to, also once all are counted."""
    for _ in range(2):
        assert find_wrong_counts(connection) == []
        count_new_jobs(connection, at_least=1)
        count_minutes(connection)
    return dump_tables(connection)


def fold(entries: list[Entry]) -> Dump:
    connection = new_ledger()
    connection.execute("BEGIN")
    for entry in entries:
        apply_entry(connection, entry)
    return dump_ledger(connection)


def job_row(entries: list[Entry]) -> dict[str, Any]:
    connection = new_ledger()
    for entry in entries:
        apply_entry(connection, entry)
    cursor = connection.execute("SELECT * FROM job_report")
    names = [column[0] for column in cursor.description]
    (row,) = cursor.fetchall()
    return dict(zip(names, row, strict=True))


@pytest.mark.slow
@settings(max_examples=20)
@given(histories(), st.lists(st.randoms(use_true_random=False), min_size=3, max_size=3))
def test_folding_gives_the_same_ledger_in_whatever_order_entries_come(
    entries: list[Entry], shuffles: list[random.Random]
) -> None:
    expected = fold(entries)
    assert fold(entries[::-1]) == expected
    for shuffle in shuffles:
        mixed = entries[:]
        shuffle.shuffle(mixed)
        assert fold(mixed) == expected


@pytest.mark.slow
@settings(max_examples=15)
@given(histories())
def test_folding_entries_twice_changes_nothing(entries: list[Entry]) -> None:
    assert fold([*entries, *entries]) == fold(entries)
    assert fold([entry for entry in entries for _ in range(2)]) == fold(entries)


@pytest.mark.slow
@settings(max_examples=20)
@given(histories(), st.data())
def test_journals_read_in_any_order_and_in_any_pieces_give_the_same_ledger(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], data: st.DataObject
) -> None:
    layout = Layout(str(tmp_path_factory.mktemp("jar")))
    Path(layout.journals).mkdir(parents=True)
    written: dict[str, list[Entry]] = {name: [] for name in ("a", "b", "c")}
    for entry in entries:
        written[data.draw(st.sampled_from("abc"))].append(entry)
    for name, some in written.items():
        journal = Journal(f"{layout.journals}/{name}.jsonl")
        journal.append(some)
        journal.close()
    at_once = new_ledger()
    at_once.execute("BEGIN")
    assert fold_journals(at_once, layout) == len(entries)
    assert dump_ledger(at_once) == fold(entries)
    bit_by_bit = new_ledger()
    taken = 0
    while taken < len(entries):
        path = data.draw(st.sampled_from(journal_paths(layout)))
        bit_by_bit.execute("BEGIN")
        taken += fold_journal(bit_by_bit, path, limit=data.draw(st.integers(1, 10)))
        bit_by_bit.execute("COMMIT")
    assert dump_ledger(bit_by_bit) == fold(entries)
    assert fold_journals(bit_by_bit, layout) == 0
    assert dump_ledger(bit_by_bit) == fold(entries)


@pytest.mark.slow
@settings(max_examples=20)
@given(histories(), st.randoms(use_true_random=False), st.data())
def test_folding_in_batches_of_any_size_gives_what_entries_one_at_a_time_give(
    entries: list[Entry], shuffle: random.Random, data: st.DataObject
) -> None:
    reference = new_ledger()
    reference.execute("BEGIN")
    for entry in entries:
        folding.fold_entry(reference, entry)
    expected = dump_ledger(reference)
    mixed = entries[:]
    shuffle.shuffle(mixed)
    for some in (entries, mixed):
        connection = new_ledger()
        connection.execute("BEGIN")
        position = 0
        while position < len(some):
            size = data.draw(st.integers(1, 2 * len(some)))
            assert apply_entries(connection, some[position : position + size]) == 0
            position += size
        assert dump_ledger(connection) == expected
        report = connection.execute("SELECT * FROM job ORDER BY uid").fetchall()
        assert [row[1:] for row in report] == [
            row[1:] for row in reference.execute("SELECT * FROM job ORDER BY uid").fetchall()
        ]


def test_an_entry_that_no_row_can_hold_does_not_take_its_batch_with_it(tmp_path: Path) -> None:
    connection = new_ledger()
    connection.execute("BEGIN")
    impossible = {**CLAIM, "job": "abcdefghjkm2", "number": 10**30}
    assert apply_entries(connection, [SUBMITTED, impossible, INTO_UNCLAIMED, CLAIM, ENDED, COMPLETED]) == 1
    assert dump_ledger(connection) == fold([SUBMITTED, INTO_UNCLAIMED, CLAIM, ENDED, COMPLETED])


def test_a_transaction_that_is_taken_back_leaves_its_entries_to_be_folded_again(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/a.jsonl")
    journal.append([SUBMITTED, INTO_UNCLAIMED, CLAIM])
    journal.close()
    connection = new_ledger()
    connection.execute("BEGIN")
    assert fold_journal(connection, journal.path) == 3
    connection.execute("ROLLBACK")
    assert dump_ledger(connection)["job"] == []
    assert fold_journal(connection, journal.path) == 3
    assert dump_ledger(connection) == fold([SUBMITTED, INTO_UNCLAIMED, CLAIM])


def test_counts_are_right_whatever_is_told_of_minutes_and_jobs_that_are_counted_already() -> None:
    now = time.time()
    entries = [{**entry} for entry in (SUBMITTED, INTO_UNCLAIMED, CLAIM, ENDED, COMPLETED)]
    connection = new_ledger()
    for number, age_s in enumerate((3600, 7200, 600, 600, 90_000, 10, 600)):
        some = [{**entry, "job": f"other{number:07}"} for entry in entries]
        some[3]["ended_at"] = now - age_s
        assert apply_entries(connection, some[: number % 5]) == 0
        dump_ledger(connection)
        assert apply_entries(connection, some[number % 5 :]) == 0
        dump_ledger(connection)
    lost = {**ENDED, "job": "other0000002", "ended_at": now - 5, "outcome": "lost", "final": False}
    assert apply_entries(connection, [lost]) == 0
    dump_ledger(connection)
    (counts,) = connection.execute("SELECT last_hour, last_day FROM outcome_report").fetchall()
    assert counts == (3, 5)
    states = connection.execute("SELECT * FROM state_report").fetchall()
    assert states == connection.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()


def test_a_job_is_where_its_latest_move_took_it() -> None:
    for entries in ([SUBMITTED, INTO_UNCLAIMED, CLAIM], [CLAIM, INTO_UNCLAIMED, SUBMITTED]):
        row = job_row(entries)
        assert (row["state"], row["place"], row["priority"]) == ("claimed", "workers/rain.7/jobs/x.5", 5)
        assert (row["submitter"], row["submitted_at"], row["retries"]) == ("ann", 10.0, 3)


def test_of_two_moves_on_one_tick_of_the_disk_s_clock_the_later_numbered_counts() -> None:
    tick = {**CLAIM, "moved_at": 10.0}
    for entries in ([SUBMITTED, INTO_UNCLAIMED, tick], [tick, INTO_UNCLAIMED, SUBMITTED]):
        assert job_row(entries)["state"] == "claimed"


def test_a_completed_job_stays_completed_whatever_a_clock_says() -> None:
    late_claim = {**CLAIM, "moved_at": 99.0, "number": 9}
    for entries in ([SUBMITTED, COMPLETED, late_claim], [late_claim, COMPLETED, SUBMITTED]):
        assert job_row(entries)["state"] == "completed"


def test_an_attempt_that_lost_its_lease_stays_lost_and_decides_nothing() -> None:
    lost = {**ENDED, "outcome": "lost", "final": False, "message": "taken back"}
    for entries in ([CLAIM, ENDED, lost], [lost, CLAIM, ENDED], [lost, ENDED, CLAIM]):
        (attempt,) = fold(entries)["attempt"]
        assert attempt[8:10] == ("lost", 0)


def test_the_process_of_an_attempt_is_known_whoever_tells_of_its_end_first() -> None:
    told = {**ENDED, "pid": 79, "pid_started": 7.0}
    lost = {**ENDED, "outcome": "lost", "final": False, "message": "its worker died"}
    for entries in ([CLAIM, told, lost], [CLAIM, lost, told], [lost, CLAIM, told], [told, lost, CLAIM]):
        one_by_one = fold(entries)["attempt"]
        connection = new_ledger()
        apply_entries(connection, entries)
        assert one_by_one == dump_ledger(connection)["attempt"]
        assert one_by_one[0][5:7] == (79, 7.0)


@pytest.mark.parametrize("first", ["rain.7", "sun.8"])
def test_a_retry_within_one_second_of_the_disk_s_clock_is_not_taken_for_a_lost_lease(first: str) -> None:
    ids = {"rain.7": "wkr1", "sun.8": "wkr2"}
    to = f"workers/{first}/jobs/x.5"
    entries = [
        SUBMITTED,
        INTO_UNCLAIMED,
        {**CLAIM, "to": to, "by": first, "worker_uid": ids[first]},
        {**ENDED, "worker": first, "worker_uid": ids[first], "outcome": "failed", "final": False},
        {**INTO_UNCLAIMED, "number": 3, "from": to, "to": "unclaimed/x.5", "moved_at": 11.0, "reason": "retried"},
        {**CLAIM, "number": 4, "attempt": 2},
        {**ENDED, "attempt": 2},
        {**COMPLETED, "number": 5},
    ]
    connection = new_ledger()
    apply_entries(connection, entries)
    word = final_attempt(connection, "wkr1")
    assert word is not None and (word.number, word.was_moved_on) == (2, False)


def test_a_job_put_back_by_hand_and_claimed_again_within_one_second_does_not_make_its_first_end_a_lost_lease() -> None:
    held = "workers/rain.7/jobs/x.5"
    again = {**CLAIM, "number": 5, "attempt": 2}
    returned = {
        **INTO_UNCLAIMED,
        "number": 6,
        "from": held,
        "to": "unclaimed/x.5",
        "moved_at": 11.0,
        "reason": "recovered",
    }
    entries = [SUBMITTED, INTO_UNCLAIMED, CLAIM, ENDED, COMPLETED, again, returned]
    for some in (entries, entries[::-1]):
        connection = new_ledger()
        apply_entries(connection, some)
        word = final_attempt(connection, "wkr1")
        assert word is not None and (word.number, word.was_moved_on) == (1, False)


@pytest.mark.parametrize("order", [1, -1])
def test_which_of_two_jobs_of_one_name_a_hand_moved_is_the_same_in_every_ledger(rig: Rig, order: int) -> None:
    jar = rig.open()
    rig.drop("x.5", "#!/bin/sh\n", "C")
    entries = []
    for uid, category in (("bbbbbbbbbbbb", "A"), ("aaaaaaaaaaaa", "B")):
        entries.append({**SUBMITTED, "job": uid, "category": category})
        entries.append({**INTO_UNCLAIMED, "job": uid, "to": f"unclaimed/{category}/x.5"})
    with jar.ledger.writing() as connection:
        for entry in entries[::order]:  # one by one, so that their rows are in this order
            apply_entry(connection, entry)
        moved = [difference for difference in reconcile(connection, jar.layout) if difference.kind == "moved"]
    assert [(difference.uid, difference.place) for difference in moved] == [("bbbbbbbbbbbb", "unclaimed/C/x.5")]


@pytest.mark.parametrize("order", [1, -1])
def test_a_worker_s_own_word_on_its_end_goes_before_that_of_a_recovery_within_the_same_second(order: int) -> None:
    worker = {"entry": "worker", "worker": "rain.7", "worker_uid": "wkr1", "node": "rain", "pid": 7}
    entries = [
        {
            **worker,
            "boot_id": "b",
            "process_started": 1,
            "user": "ann",
            "categories": [],
            "version": "1",
            "started_at": 10.0,
        },
        {**worker, "ended_at": 12.7, "end_reason": "stopped"},
        {**worker, "ended_at": 12.0, "end_reason": "died"},  # by a clock of whole seconds
    ]
    [row] = fold(entries[::order])["worker"]
    assert row[-3:] == (10.0, 12.7, "stopped")


def test_the_outcome_of_a_completed_job_is_that_of_its_final_attempt() -> None:
    other = {**ENDED, "worker_uid": "wkr2", "attempt": 2, "outcome": "lost", "final": False, "ended_at": 50.0}
    for entries in ([SUBMITTED, CLAIM, ENDED, COMPLETED, other], [other, COMPLETED, ENDED, CLAIM, SUBMITTED]):
        row = job_row(entries)
        assert (row["state"], row["outcome"], row["exit_status"], row["final_worker"]) == (
            "completed",
            "succeeded",
            0,
            "rain.7",
        )


def test_a_job_given_an_id_by_its_claim_is_not_there_twice() -> None:
    connection = new_ledger()
    connection.execute("INSERT INTO job (name, state, place, priority) VALUES ('x.5', 'unclaimed', 'unclaimed/x.5', 5)")
    apply_entry(connection, {**CLAIM, "number": 1, "found": {"submitter": "ann", "submitted_at": 3.0, "category": ""}})
    (row,) = dump_ledger(connection)["job"]
    assert row[:4] == ("abcdefghjkm1", "x.5", "claimed", "workers/rain.7/jobs/x.5")


# A node whose look at the directories was quicker than its look at the journals claims a job that was submitted properly:
# its claim tells what the file alone says.
FOUND = {**CLAIM, "found": {"submitter": "ann", "submitted_at": 10.0, "category": "", "time_limit_s": 7.0}}


def test_what_a_submission_says_goes_before_what_its_claimer_found() -> None:
    expected = fold([FOUND, INTO_UNCLAIMED, SUBMITTED])
    assert fold([SUBMITTED, INTO_UNCLAIMED, FOUND]) == expected
    assert job_row([SUBMITTED, FOUND])["retries"] == 3


NOT_OURS: list[Any] = [
    {"entry": "moved"},
    {"entry": "moved", "job": "j"},
    {**CLAIM, "to": "elsewhere/x"},
    {**CLAIM, "to": 5},
    {**CLAIM, "moved_at": None},
    {**CLAIM, "moved_at": {}},
    {**CLAIM, "number": 10**30},
    {"entry": "submitted", "job": "j"},
    {"entry": "submitted", "job": ["j"], "name": "x"},
    {"entry": "ended", "job": "j", "attempt": 1},
    {"entry": "started", "job": "j", "attempt": None, "worker": None, "worker_uid": None, "pid": 1, "pid_started": 1},
    {"entry": "worker", "worker_uid": "w"},
    {"entry": "variables", "job": "j", "attempt": 1, "worker": "w", "worker_uid": "u", "variables": [1]},
    {
        "entry": "variables",
        "job": "j",
        "attempt": 1,
        "worker": "w",
        "worker_uid": "u",
        "variables": {},
        "told_at": "noon",
    },
    {"entry": "variables", "job": "j", "attempt": 1, "worker_uid": "u", "variables": {"n": "1"}, "ordinals": [2]},
    {
        "entry": "variables",
        "job": "j",
        "attempt": 1,
        "worker_uid": "u",
        "variables": {"n": "1"},
        "ordinals": {"n": "x"},
    },
    {"entry": "phase", "job": "j", "attempt": 1, "worker": "w", "worker_uid": "u", "phase": "run"},
    {"entry": "warned", "job": "j", "attempt": 1, "worker": "w", "worker_uid": "u", "warnings": 5},
    {"entry": "warned", "job": "j", "attempt": 1, "worker": "w", "worker_uid": "u", "first": "x", "warnings": ["odd"]},
    {"entry": "batch", "batch": "b", "description": "", "changed_at": "noon"},
    {"entry": "throttle", "batch": "b", "told_at": 1.0, "until": None, "failures": 1},
    {"entry": ["moved"]},
]


@pytest.mark.parametrize("line", NOT_OURS)
def test_a_line_that_is_not_ours_is_counted_and_passed_over(tmp_path: Path, line: Any) -> None:
    journal = Journal(f"{tmp_path}/a.jsonl")
    journal.append([SUBMITTED, line, INTO_UNCLAIMED])
    journal.close()
    connection = new_ledger()
    connection.execute("BEGIN")
    assert fold_journal(connection, journal.path) == 3
    assert connection.execute("SELECT torn_lines FROM journal_position").fetchone() == (1,)
    assert dump_ledger(connection) == fold([SUBMITTED, INTO_UNCLAIMED])


def test_an_entry_of_a_kind_that_a_later_version_writes_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/a.jsonl")
    journal.append([SUBMITTED, {"entry": "dreamt", "job": "abcdefghjkm1"}, INTO_UNCLAIMED])
    journal.close()
    connection = new_ledger()
    fold_journal(connection, journal.path)
    assert dump_ledger(connection) == fold([SUBMITTED, INTO_UNCLAIMED])


def test_a_torn_line_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(str(path))
    connection = new_ledger()
    journal.append([SUBMITTED])
    assert fold_journal(connection, str(path)) == 1
    with path.open("ab") as file:
        file.write(b'\n{"entry":"mov')
    assert fold_journal(connection, str(path)) == 0
    journal.append([INTO_UNCLAIMED])
    assert fold_journal(connection, str(path)) == 2
    assert fold_journal(connection, str(path)) == 0
    journal.close()
    assert connection.execute("SELECT offset, torn_lines FROM journal_position").fetchall() == [
        (path.stat().st_size, 1)
    ]


def test_only_journals_are_read_and_in_a_fixed_order(rig: Rig) -> None:
    layout = rig.open().layout
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", ".nfs0001", "notes.txt", "c.jsonl~"):
        Path(f"{layout.journals}/{name}").write_text("")
    assert [Path(path).name for path in journal_paths(layout)] == ["a.jsonl", "b.jsonl"]


def test_variables_keep_their_text_and_are_numbers_where_they_can_be() -> None:
    who = {"job": "j", "attempt": 1, "worker": "rain.7", "worker_uid": "wkr1"}
    rows = fold([{"entry": "variables", **who, "variables": {"loss": 0.25, "name": "x", "n": "7"}}])[
        "monitored_variable"
    ]
    assert [row[3:6] for row in rows] == [("loss", "0.25", 0.25), ("n", "7", 7.0), ("name", "x", None)]


@pytest.mark.parametrize(
    "more", [{"message": "by snow"}, {"output_file": "x.out"}, {"exit_status": 1}, {"max_rss_kib": 7}]
)
def test_two_ends_at_the_same_time_give_the_same_row_in_either_order(more: Entry) -> None:
    one: Entry = {**ENDED, "final": False, "outcome": "stranded", "exit_status": None}
    rows = [fold(entries)["attempt"] for entries in ([one, {**one, **more}], [{**one, **more}, one])]
    assert rows[0] == rows[1] and next(iter(more.values())) in rows[0][0]


def test_of_what_was_told_of_a_variable_the_latest_stands_in_whatever_order_it_comes() -> None:
    who = {"entry": "variables", "job": "j", "attempt": 1, "worker": "rain.7", "worker_uid": "wkr1"}
    told = [
        {**who, "variables": {"work_done": value}, "told_at": at} for value, at in (("9", 1.0), ("10", 2.0), ("3", 3.0))
    ]
    for entries in (told, told[::-1], [told[2], told[0], told[1]]):
        assert fold(entries)["monitored_variable"] == [("j", 1, "wkr1", "work_done", "3", 3.0, 3.0, 1)]


def test_a_variable_s_history_is_thinned_the_same_in_whatever_order_and_pieces_it_comes() -> None:
    """First and latest are kept, and of the others as many as there is room for, evenly spread; what has few values keeps all.
    The latest is that of the highest ordinal, also where a clock was set back."""
    who = {"entry": "variables", "job": "j", "attempt": 1, "worker": "rain.7", "worker_uid": "wkr1"}
    count = 2 * HISTORY_LENGTH + 345
    told: list[Any] = [
        {**who, "variables": {"loss": f"{-n}"}, "ordinals": {"loss": n}, "told_at": float(count - n)}
        for n in range(1, count + 1)
    ]
    told[500]["variables"]["stage"] = "late"
    expected: Dump = {}
    for seed in range(4):
        entries, chance = told[:], random.Random(seed)
        if seed:
            chance.shuffle(entries)
        connection = new_ledger()
        connection.execute("BEGIN")
        while entries:
            piece = chance.randint(1, len(told))
            assert apply_entries(connection, entries[:piece]) == 0
            entries = entries[piece:]
        expected = expected or dump_ledger(connection)
        assert dump_ledger(connection) == expected
    ordinals = [row[4] for row in expected["variable_history"] if row[3] == "loss"]
    assert HISTORY_LENGTH / 2 < len(ordinals) <= HISTORY_LENGTH
    assert (ordinals[0], ordinals[-1]) == (1, count)
    assert {later - earlier for earlier, later in pairwise(ordinals[:-1])} == {4}
    assert ("j", 1, "wkr1", "stage", 1, count - 501.0, "late", None) in expected["variable_history"]
    assert expected["monitored_variable"][0] == ("j", 1, "wkr1", "loss", f"{-count}", float(-count), 0.0, count)


@pytest.mark.parametrize("later", [b"", b'\n{"entry":"worker","later":"than the crash"}' * 9])
def test_a_ledger_that_knows_more_than_its_journal_after_a_crash_is_made_anew(rig: Rig, later: bytes) -> None:
    jar = rig.open()
    rig.submit("true")
    rig.submit("true")
    fill_ledger(jar.ledger)
    journal = Path(jar.journal.path)
    jar.close()
    # What a crash of the node took back: the end of the file, which was never written to the disk.
    journal.write_bytes(journal.read_bytes()[:-150] + later)
    result = rig.run("recover_jobs")
    assert "a crash took some back" in result.stderr and "rebuilding it" in result.stderr
    rig.assert_clean()
