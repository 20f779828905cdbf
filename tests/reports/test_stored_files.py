"""Questions about stored files, put to a ledger that was folded from journals."""

from __future__ import annotations

from jobjar.ledger.ask_stored_files import list_stored
from jobjar.reports.refresh import refresh_ledger
from tests.rig import Rig


def count_steps(rig: Rig, files: int) -> int:
    """How many thousands of SQLite's steps a list of a job's files takes, of which each attempt of three stored all."""
    jar = rig.open()
    jar.journal.append(
        {
            "entry": "stored",
            "job": f"job{files}",
            "attempt": attempt,
            "worker_uid": "w",
            "source_name": f"file {number}",
        }
        for attempt in (1, 2, 3)
        for number in range(files)
    )
    refresh_ledger(jar)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    jar.ledger.connection.set_progress_handler(count, 1000)
    listed = list_stored(jar.ledger, job=f"job{files}")
    jar.ledger.connection.set_progress_handler(None, 0)
    assert [output.attempt for output in listed] == [3] * files
    return steps


def test_a_list_of_a_job_s_files_takes_no_more_for_each_of_many_than_of_few(rig: Rig) -> None:
    few, many = count_steps(rig, 500), count_steps(rig, 4000)
    assert few > 0 and many < 12 * few


def test_a_record_that_was_renamed_later_is_not_found_by_its_former_name(rig: Rig) -> None:
    jar = rig.open()
    record = {"entry": "stored", "job": "j0b", "worker_uid": "w", "source_name": "a"}
    jar.journal.append([{**record, "attempt": 1, "storage_name": "b"}, {**record, "attempt": 2, "storage_name": "c"}])
    refresh_ledger(jar)
    assert list_stored(jar.ledger, name="b") == []
    for name in ("a", "c"):
        (output,) = list_stored(jar.ledger, name=name)
        assert (output.name, output.attempt, output.job_name, output.batch) == ("c", 2, None, None)
