from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobjar.errors import UnknownBatch
from jobjar.jar import Jar
from jobjar.ledger import ask_batches
from jobjar.ledger.rebuild import dump_ledger, fill_ledger, open_fresh_in_memory, rebuild_ledger
from jobjar.reports.batches import format_batch, format_batches, gather_batches, gather_work
from jobjar.reports.jobs import describe_job
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from jobjar.units import format_bytes
from tests.journaled_jobs import OTHER_WORKER, DescribedJob, journal_batch, journal_throttle
from tests.rig import Rig

Make = Callable[..., DescribedJob]


@pytest.fixture
def jar(rig: Rig) -> Jar:
    return rig.open()


@pytest.fixture
def make(jar: Jar) -> Make:
    """Submits the next job of the batch `wc`, an hour ago."""
    seeds = iter(range(1, 1000))
    begun_at = time.time() - 3000

    def make_job(batch: str | None = "wc", **said: Any) -> DescribedJob:
        seed = next(seeds)
        return DescribedJob(jar, batch, seed, begun_at + 10 * seed, **said)

    return make_job


def only(jar: Jar, name: str | None = None) -> dict[str, Any]:
    (batch,) = gather_batches(jar, name)
    return batch


def test_each_job_is_counted_in_its_phase_or_by_its_outcome(jar: Jar, make: Make) -> None:
    make()
    held = make()
    held.move(f"limbo/{held.name}", "held", "ann", held_reason="bad")
    make().claim()
    for phase in ("stage_in", "run", "poll", "stage_out"):
        make().claim().begin(phase)
    make().claim().pass_phase("stage_in")
    make().claim().pass_phase("run").publish("disk")
    make().claim().publish("disk").claim(OTHER_WORKER, "STORAGE-disk").begin("store")
    for outcome, status in (("succeeded", 0), ("failed", 3), ("timed_out", None), ("cancelled", None)):
        make().claim().complete(outcome, status)
    by_hand = make()
    os.rename(jar.layout.path(by_hand.place), f"{jar.layout.completed}/{by_hand.name}")
    os.unlink(jar.layout.path(make().place))
    batch = only(jar)
    assert list(batch["phases"].items()) == [
        ("held", 1),
        ("waiting", 1),
        ("claimed", 2),
        ("stage_in", 1),
        ("run", 1),
        ("poll", 1),
        ("stage_out", 1),
        ("waiting_for_storage", 1),
        ("store", 1),
        ("succeeded", 1),
        ("failed", 1),
        ("timed_out", 1),
        ("cancelled", 1),
        ("unknown", 1),
        ("removed", 1),
    ]
    assert (batch["done"], batch["jobs"]) == (5, 16)


def test_a_phase_that_was_cut_short_with_its_worker_is_over(jar: Jar, make: Make) -> None:
    job = make().claim().begin("run")
    job.end("stranded", False)
    job.move(f"unclaimed/{job.name}", "recovered", "sun.8", category="")
    assert only(jar)["phases"] == {"waiting": 1}
    job.claim(OTHER_WORKER)
    assert only(jar)["phases"] == {"claimed": 1}
    job.begin("stage_in")
    assert only(jar)["phases"] == {"stage_in": 1}


def test_a_phase_that_a_dead_attempt_left_open_is_not_that_of_the_next(jar: Jar, make: Make) -> None:
    job = make().claim().begin("run")  # and no word of how it ended was ever written
    job.move(f"unclaimed/{job.name}", "recovered", "sun.8", category="")
    job.claim(OTHER_WORKER)
    assert only(jar)["phases"] == {"claimed": 1}


def test_a_job_that_is_open_again_does_not_count_as_ended(jar: Jar, make: Make) -> None:
    job = make().claim().complete("failed", 3)
    job.move(f"unclaimed/{job.name}", "submitted", "ann")
    make().claim().complete("failed", 3)
    # Completed is final in one life of a job; who moves its file by hand begins the next, which the directories show.
    batch = only(jar, "wc")
    assert batch["phases"] == {"waiting": 1, "failed": 1}
    assert (batch["done"], len(batch["failed_jobs"])) == (1, 1)


def test_a_job_that_retention_removed_stays_among_those_that_ended(jar: Jar, make: Make) -> None:
    job = make().claim().complete()
    os.unlink(jar.layout.path(job.place))
    only(jar)
    fill_ledger(jar.ledger)
    batch = only(jar)
    assert (batch["done"], batch["jobs"], batch["phases"]) == (1, 1, {"succeeded": 1})


def test_work_of_an_attempt_that_was_repeated_counts_once(jar: Jar, make: Make) -> None:
    make().claim().log(work_done=100).retry().claim().log(work_done=7).complete()
    make().claim().log(work_done=1000).complete("failed", 1)
    make().claim().log(loss="0.5").complete()
    (work,) = gather_work(jar)
    assert work == {"batch": "wc", "work_done": 7, "work_done_jobs": 1, "work_under_way": None}


def test_work_that_is_published_is_done_unless_it_cannot_be_stored(jar: Jar, make: Make) -> None:
    make().claim().log(work_done=1).publish("disk")
    make().claim().log(work_done=10).publish("disk").claim(OTHER_WORKER, "STORAGE-disk").complete()
    make().claim().log(work_done=100).publish("disk").claim(OTHER_WORKER, "STORAGE-disk").complete("failed", 0)
    make().claim().log(work_done=1000).publish("errors", exit_status=2)
    assert gather_work(jar, "wc")[0]["work_done"] == 11


def test_work_of_running_jobs_is_summed_up_apart_by_what_they_said_last(jar: Jar, make: Make) -> None:
    make().claim().log(work_done=50).retry().claim(OTHER_WORKER).log(work_done=3).log(work_done=4)
    make().claim().log(work_done=30).complete()
    make().claim().log(work_done=9).retry()
    (work,) = gather_work(jar)
    assert (work["work_done"], work["work_done_jobs"], work["work_under_way"]) == (30, 1, 4)


@pytest.mark.parametrize(
    ("said", "total"),
    [
        (["9007199254740993", "9007199254740993"], 18014398509481986),
        (["9223372036854775807", "9223372036854775807", "-5"], 18446744073709551609),
        (["123456789012345678901234567890", "1"], 123456789012345678901234567891),
        (["-3", "+5", "007", "2.0"], 11),
        (["0.5", "1"], 1.5),
        (["much", "4", "nan", "inf"], 4),
    ],
)
def test_whole_numbers_add_up_exactly_whatever_their_size(jar: Jar, make: Make, said: list[str], total: float) -> None:
    for value in said:
        make().claim().log(work_done=value).complete()
    assert gather_work(jar)[0]["work_done"] == total
    assert type(gather_work(jar)[0]["work_done"]) is type(total)


def test_a_file_that_was_stored_twice_counts_once(jar: Jar, make: Make) -> None:
    make().claim().store("a.txt", 5).store("b/c.txt", 7).retry().claim().store("a.txt", 6).complete()
    make().claim().store("a.txt", 100).complete()
    batch = only(jar)
    assert (batch["stored_files"], batch["stored_bytes"]) == (3, 113)


def test_failures_are_attempts_whether_they_were_repeated_or_not(jar: Jar, make: Make) -> None:
    make().claim().retry().claim().retry().claim().complete()
    make().claim().complete("timed_out", None)
    make("other").claim().complete("failed", 1)
    stranded = make().claim()
    stranded.end("stranded", False)
    assert {batch["batch"]: batch["failures"] for batch in gather_batches(jar)} == {"other": 1, "wc": 3}


def test_the_details_say_which_jobs_failed_and_why(jar: Jar, make: Make) -> None:
    make().claim().pass_phase("stage_in", exit_status=1, message="no such archive").complete("failed", 1)
    make().claim().complete("failed", 4)
    make().claim().complete("killed", None, signal=9)
    make().claim().complete("failed", 5, message="its outputs cannot be stored")
    make().claim().complete("cancelled", None)
    again = make().claim().retry(message="first").claim().retry(message="disk full")
    running = make().claim(OTHER_WORKER).begin("run")
    batch = only(jar, "wc")
    assert [(job["seed"], job["outcome"], job["exit_status"], job["message"]) for job in batch["failed_jobs"]] == [
        (4, "failed", 5, "its outputs cannot be stored"),
        (3, "killed", None, None),
        (2, "failed", 4, None),
        (1, "failed", 1, "no such archive"),
    ]
    assert [(job["id"], job["attempt"], job["message"]) for job in batch["retried_jobs"]] == [
        (again.uid, 2, "disk full")
    ]
    (held,) = batch["held_jobs"]
    assert (held["id"], held["phase"], held["worker"]) == (running.uid, "run", "sun.8")


def test_the_details_count_the_jobs_with_warnings(jar: Jar, make: Make) -> None:
    job = make().claim()
    job.journal("warned", **job.who, warnings=["line 1: no =", "line 2: no ="])
    make().claim().complete()
    assert only(jar, "wc")["warned_jobs"] == 1


def test_the_rate_is_that_of_the_last_hour_from_when_the_first_of_its_jobs_began(jar: Jar, make: Make) -> None:
    for _ in range(4):
        make().claim().complete()  # 3000 s ago, ten seconds from one to the next
    for _ in range(6):
        make()
    batch = only(jar)
    assert batch["rate_per_s"] == pytest.approx(4 / 2990, rel=0.05)
    assert batch["eta_s"] == pytest.approx(6 * 2990 / 4, rel=0.05)


def test_the_rate_of_a_batch_that_is_over_is_that_at_which_it_ran(jar: Jar, make: Make) -> None:
    make().claim().complete()
    assert only(jar)["rate_per_s"] is None  # of one job
    for _ in range(3):
        make().claim().complete()  # 3000 s ago, ten seconds from one to the next
    assert only(jar)["rate_per_s"] == pytest.approx(4 / 30, rel=0.1)


def test_what_is_to_be_expected_comes_after_the_end_of_the_throttle(jar: Jar, make: Make) -> None:
    make().claim().complete()
    make()
    journal_batch(jar, "wc", jobs=2)
    before = only(jar)["eta_s"]
    journal_throttle(jar, "wc", time.time() + 600, 10)
    assert 590 < only(jar)["eta_s"] - before < 610


def test_a_batch_that_ended_long_ago_has_no_rate_and_nothing_to_be_expected(jar: Jar) -> None:
    DescribedJob(jar, "wc", 1, time.time() - 3 * 86400).claim().complete()
    batch = only(jar)
    assert (batch["rate_per_s"], batch["eta_s"]) == (None, None)


def test_a_day_is_looked_back_where_the_last_hour_saw_no_job_end(jar: Jar) -> None:
    DescribedJob(jar, "wc", 1, time.time() - 7200).claim().complete()
    DescribedJob(jar, "wc", 2, time.time() - 7200)
    assert only(jar)["eta_s"] == pytest.approx(7200, rel=0.05)


def test_of_many_jobs_the_newest_thousand_make_the_rate(jar: Jar, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_batches, "_RATE_JOBS", 3)
    for _ in range(9):
        make().claim().complete()
    make()
    # The fourth from the end completed as long ago as jobs 6 to 9 of 10 s each were made.
    assert only(jar)["rate_per_s"] == pytest.approx(3 / (3000 - 60), rel=0.05)


def test_before_any_job_ended_the_description_tells_what_is_to_be_expected(jar: Jar, make: Make) -> None:
    for _ in range(2):
        make(described={"job_runtime": "10m"}).claim().begin("run")
    for _ in range(4):
        make(described={"job_runtime": "10m"})
    assert only(jar)["eta_s"] == 4 * 600 / 2  # the two have run for longer than that
    make("begun", described={"job_runtime": "2h"}).claim().begin("run")
    assert only(jar, "begun")["eta_s"] == pytest.approx(7200 - 2900, abs=100)
    make("silent")
    assert only(jar, "silent")["eta_s"] is None


def test_what_runs_is_expected_to_end_when_it_has_taken_what_the_others_took(jar: Jar) -> None:
    now = time.time()
    for seed in (1, 2):
        job = DescribedJob(jar, "wc", seed, now - 900).claim()
        job.clock = now - 300
        job.complete()  # ten minutes each
    for seed in (3, 4):
        DescribedJob(jar, "wc", seed, now - 300).claim()
    assert only(jar)["eta_s"] == pytest.approx(300, abs=30)  # by the rate alone it would be fifteen minutes
    DescribedJob(jar, "wc", 5, now - 300)
    assert only(jar)["eta_s"] == pytest.approx(900, abs=30)  # two jobs' worth at two in a quarter of an hour


def test_there_is_no_estimate_where_nothing_tells(jar: Jar, make: Make) -> None:
    now = time.time()
    job = DescribedJob(jar, "slow", 1, now - 900).claim()
    job.clock = now - 890
    job.complete()
    DescribedJob(jar, "slow", 2, now - 600).claim()  # it has run for longer than the other took
    assert only(jar, "slow")["rate_per_s"] is not None and only(jar, "slow")["eta_s"] is None
    make("held").claim().complete()
    held = make("held")
    held.move(f"limbo/{held.name}", "held", "ann", held_reason="bad")
    assert only(jar, "held")["eta_s"] is None


def test_an_aborted_batch_has_no_rate(jar: Jar, make: Make) -> None:
    for _ in range(5):
        make().claim().complete("cancelled", None)
    make().claim()
    journal_batch(jar, "wc", jobs=6, is_aborted=True, changed_at=2000.0)
    batch = only(jar, "wc")
    assert (batch["rate_per_s"], batch["eta_s"]) == (None, None)
    (line,) = format_batches([batch], "plain").splitlines()[1:]
    assert "/s" not in line and " -  " in line


def test_no_attempt_is_shown_to_end_before_it_started(jar: Jar, make: Make) -> None:
    """Its node's clock was behind the disk's, or another's."""
    job = make().claim()
    began_at = job.clock
    job.journal(
        "ended", **job.who, ended_at=began_at - 30, outcome="succeeded", final=True, exit_status=0, wall_time_s=2.5
    )
    job.move(f"completed/{job.name}", "completed", "rain.7")
    refresh_ledger(jar)
    (attempt,) = describe_job(jar, find_job(jar, job.uid))["attempts"]
    assert attempt["ended_at"] == pytest.approx(attempt["started_at"] + 2.5)


def test_rates_are_written_in_sensible_units(jar: Jar, make: Make) -> None:
    for _ in range(4):
        make().claim().complete()
    make()
    assert "rate" in format_batches([only(jar)], "plain") and "4.8/h" in format_batches([only(jar)], "plain")
    assert "jobs completed" in format_batch(only(jar, "wc"), "plain") and "4.8/h" in format_batch(
        only(jar, "wc"), "plain"
    )


def test_what_is_told_of_a_batch_is_shown_until_it_is_over(jar: Jar, make: Make) -> None:
    make()
    journal_batch(jar, "wc", jobs=5, notes="counts words")
    journal_throttle(jar, "wc", time.time() + 600, 10)
    batch = only(jar)
    assert (batch["jobs"], batch["done"], batch["notes"], batch["submitter"]) == (5, 0, "counts words", "ann")
    assert batch["throttled_until"] > time.time() and not batch["is_aborted"]
    assert "throttled until" in format_batches([batch], "simple")
    journal_batch(jar, "wc", jobs=5, is_aborted=True, changed_at=2000.0)
    journal_batch(jar, "past")
    journal_throttle(jar, "past", time.time() - 600, 10)
    past, batch = gather_batches(jar)
    assert batch["is_aborted"] and past["throttled_until"] is None
    assert (past["jobs"], past["phases"], past["work_done"]) == (0, {}, None)
    assert "aborted; throttled until" in format_batches([past, batch], "simple")


def test_a_batch_that_only_jobs_name_is_there_and_one_that_nobody_names_is_not(jar: Jar, make: Make) -> None:
    make("dropped")
    make(None)
    assert [batch["batch"] for batch in gather_batches(jar)] == ["dropped"]
    with pytest.raises(UnknownBatch, match="no batch wc"):
        gather_batches(jar, "wc")
    with pytest.raises(UnknownBatch):
        gather_work(jar, "wc")


def test_jobs_that_were_submitted_again_are_counted_apart(jar: Jar, make: Make) -> None:
    """Also those that were archived or removed since, and one that ended without a word; not what fails after that."""
    make().claim().complete()
    replaced = [make().claim().complete("failed", 3) for _ in range(3)]
    make().claim().complete("cancelled", None)
    by_hand = make()
    by_hand.move(f"completed/{by_hand.name}", "completed", "ann")
    gone = make()
    os.unlink(jar.layout.path(gone.place))
    until = gone.tick()
    journal_batch(jar, "wc", jobs=7, changed_at=2000.0)
    assert (only(jar)["done"], only(jar)["jobs"], only(jar)["restarted"]) == (6, 7, 0)
    replaced[0].clock = replaced[1].clock = until + 1
    replaced[0].move(f"archive/2026-01-02/completed/{replaced[0].name}", "archived", "nightly")
    os.unlink(jar.layout.path(replaced[1].place))
    journal_batch(jar, "wc", jobs=7, changed_at=3000.0, restarted_until=until)
    for _ in range(5):
        make()
    make().claim().complete("failed", 4)
    batch = only(jar, "wc")
    assert batch["phases"] == {"waiting": 5, "succeeded": 1, "failed": 1, "removed": 1}
    assert (batch["done"], batch["jobs"], batch["restarted"], batch["failures"]) == (2, 8, 5, 4)
    assert [job["seed"] for job in batch["failed_jobs"]] == [13]
    # By those alone that ended after the restart.
    assert batch["rate_per_s"] is not None and batch["eta_s"] == pytest.approx(5 / batch["rate_per_s"], rel=0.01)
    told = ask_batches.recent_rate(jar.ledger, "wc", time.time(), until)
    assert told is not None and told.jobs == 1


def test_a_ledger_made_anew_says_the_same_of_a_batch(jar: Jar, make: Make) -> None:
    journal_batch(jar, "wc", jobs=9)
    make().claim().log(work_done=1).retry().claim().pass_phase("run").log(work_done=2).store("a", 9).complete()
    make().claim().complete("failed", 3, message="why")
    make().claim().begin("run").log(work_done=3)
    before = only(jar, "wc")
    rebuild_ledger(jar.layout, jar.ledger_home)
    after = only(jar, "wc")
    for batch in (before, after):  # these go with the clock
        assert batch.pop("rate_per_s") and batch.pop("eta_s")
    assert after == before
    with contextlib.closing(open_fresh_in_memory(jar.layout)) as copy:
        assert dump_ledger(copy) == dump_ledger(jar.ledger.connection)


def test_nothing_that_is_asked_of_batches_reads_the_rows_of_all_jobs(jar: Jar, make: Make) -> None:
    make().claim().log(work_done=1).store("a", 9).complete()
    make().claim().retry()
    gather_batches(jar)
    connection = jar.ledger.connection
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    questions = (
        ask_batches.count_phases,
        ask_batches.count_failures,
        ask_batches.sum_stored,
        ask_batches.sum_work_done,
    )
    for name in (None, "wc"):
        for ask in (ask_batches.list_batches, *questions, ask_batches.count_restarted, ask_batches.sum_work_under_way):
            ask(jar.ledger, name)
    ask_batches.recent_rate(jar.ledger, "wc", time.time())
    ask_batches.open_place(jar.ledger, "wc")
    ask_batches.count_warned(jar.ledger, "wc")
    for ask_jobs in (ask_batches.failed_jobs, ask_batches.retried_jobs, ask_batches.held_jobs):
        ask_jobs(jar.ledger, "wc", 20)
    ask_batches.count_open_phases(jar.ledger)
    connection.set_trace_callback(None)
    asked = [query for query in asked if not query.lstrip().startswith("--")]
    assert len(asked) >= 20
    for query in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        # An index of all jobs alone, not each job's row by way of it; of attempts and what they told, those of single jobs.
        rows = [step for step in plan if step.startswith("SCAN job") and "COVERING" not in step]
        rows += [step for step in plan if " USING INDEX job_of_batch" in step and "uid=?" not in step]
        rows += [step for step in plan if step.startswith(("SCAN attempt", "SCAN variable", "SCAN stored_file"))]
        assert not [step for step in rows if "attempt_failed" not in step], (query, plan)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10**6, "977 KiB"),
        (10**9, "954 MiB"),
        (2**70, "1.05e+06 PiB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_fits(size: int, text: str) -> None:
    assert format_bytes(size) == text
