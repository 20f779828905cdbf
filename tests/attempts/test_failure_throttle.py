"""failure_throttle: a batch whose jobs fail fast is slowed by itself, and one success ends that."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from jobjar.attempts import claim_undone, failure_throttle
from jobjar.attempts.attempt import FAILED, KILLED, PUBLISHED, SUCCEEDED, TIMED_OUT, AttemptEnd, ClaimedJob
from jobjar.attempts.verdict import Verdict
from jobjar.ledger import ask_closed
from jobjar.ledger.ask_claiming import next_due
from jobjar.ledger.ask_status import list_throttles
from jobjar.ledger.rebuild import fill_ledger
from jobjar.stages import claim, complete
from jobjar.stages.complete import Ending, WhileRefused
from jobjar.stages.submit import describe_command, describe_file, submit, submit_all
from tests.attempts.test_candidates import count_calls
from tests.claiming import claim_in_turns
from tests.race.test_lost_races import entries, make_claimer
from tests.rig import Rig, wait_until


class Site:
    """A worker's claims and ends of attempts, at times that the test gives, seconds after one moment."""

    def __init__(self, rig: Rig, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began: float = time.time()
        self.now: float = self.began
        # The disk's time of a claim is what the test says; files cannot be given one.
        for module in (claim, claim_undone):
            monkeypatch.setattr(module, "disk_time", lambda status: round(self.now, 6))
        self.claimer = make_claimer(rig, "a.1")
        self.directory = directory

    def submit(self, count: int, threshold: str = "3", batch: str = "wc", category: str = "") -> list[str]:
        path = self.directory / f"of {batch}"
        path.write_text(
            f"#!/bin/sh\n#JJ described = yes\n#JJ batch = {batch}\n#JJ failure_throttle = {threshold}\n"
            "#JJ retries = 0\n#JJ run_command = exit 1\nexit 1\n"
        )
        path.chmod(0o755)
        names = submit_all(self.claimer.jar, [describe_file(str(path), category=category or None)] * count)
        fill_ledger(self.claimer.jar.ledger)
        return names

    def claim(self, at_s: float) -> ClaimedJob | None:
        self.now = self.began + at_s
        return claim_in_turns(self.claimer, self.now, print)

    def end(self, job: ClaimedJob | None, at_s: float, outcome: str = FAILED) -> list[str]:
        """End a job's attempt; returns what was said."""
        assert job is not None
        said: list[str] = []
        end = AttemptEnd(outcome, 1, None, 0.1, 0.1, 0.1, 1000)
        now = self.began + at_s
        verdict = Verdict.give_back(PUBLISHED) if outcome == PUBLISHED else Verdict.complete()
        assert complete.complete(self.claimer, Ending(job, end, verdict, now), WhileRefused(lambda: False, said.append))
        return said

    def run(self, *ends: tuple[float, str]) -> list[str]:
        """Claim and end one job after the other, a second each; returns what was said."""
        return [line for at_s, outcome in ends for line in self.end(self.claim(at_s), at_s + 1, outcome)]

    def throttles(self) -> list[tuple[str, float, int]]:
        """(batch, seconds until when, failures) of those that are throttled."""
        fill_ledger(self.claimer.jar.ledger)
        rows = list_throttles(self.claimer.jar.ledger)
        return [(row.batch, round(row.until - self.began, 1), row.failures) for row in rows]


@pytest.fixture
def site(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(rig, tmp_path, monkeypatch)


def fails(*times: float) -> list[tuple[float, str]]:
    return [(at_s, FAILED) for at_s in times]


def test_after_so_many_fast_failures_in_a_row_none_of_the_batch_is_claimed_for_a_minute(site: Site) -> None:
    site.submit(9)
    other = submit(site.claimer.jar, describe_command("true", priority=-1))
    assert site.run(*fails(0, 2)) == []
    assert site.run((4, TIMED_OUT)) == ["batch wc: 3 jobs failed fast in a row; none of it is claimed for 60 s"]
    assert site.throttles() == [("wc", 65, 3)]
    job = site.claim(6)
    assert job is not None and job.name == other
    assert site.claim(64.9) is None
    assert site.claim(65.1) is not None


def test_each_further_fast_failure_that_ends_after_it_doubles_it_up_to_an_hour(site: Site) -> None:
    site.submit(30)
    site.run(*fails(0, 1, 2))
    at_s, delay_s, failures = 3.0, 60.0, 3
    while failures < 12:
        assert site.throttles() == [("wc", round(at_s + delay_s, 1), failures)]
        at_s += delay_s + 1
        late = site.claim(at_s - 0.5)
        site.end(site.claim(at_s - 0.5), at_s)
        delay_s, failures = min(2 * delay_s, 3600), failures + 1
        # Of those that were claimed together only the first counts: the next ended in the new throttle.
        assert site.end(late, at_s + 0.1) == []
    assert delay_s == 3600


def test_one_success_ends_it_and_counting_begins_anew(site: Site) -> None:
    site.submit(20)
    running = site.claim(0)
    site.run(*fails(0, 1, 2))
    assert site.claim(4) is None
    assert site.end(running, 5, SUCCEEDED) == ["batch wc: a job succeeded, the throttle is over"]
    assert site.throttles() == []
    site.run(*fails(6, 7))
    assert site.throttles() == []
    site.run(*fails(8))
    assert site.throttles() == [("wc", 69, 3)]


def test_what_is_told_within_one_second_of_the_disk_s_clock_stands_in_its_order(site: Site) -> None:
    site.submit(20)
    running = site.claim(0)
    site.run(*fails(0, 0, 0))
    assert site.throttles() == [("wc", 61, 3)]
    site.end(running, 1, SUCCEEDED)
    assert site.throttles() == []
    assert site.claim(1.5) is not None


@pytest.mark.parametrize(
    ("ends", "is_throttled"),
    [
        ([FAILED, FAILED, SUCCEEDED, FAILED], False),
        ([FAILED, FAILED, PUBLISHED, FAILED], False),
        ([FAILED, KILLED, FAILED, FAILED], True),
        ([SUCCEEDED, TIMED_OUT, FAILED, TIMED_OUT], True),
    ],
)
def test_what_is_in_a_row(site: Site, ends: list[str], is_throttled: bool) -> None:
    site.submit(9)
    site.run(*((float(number), outcome) for number, outcome in enumerate(ends)))
    assert bool(site.throttles()) == is_throttled


def test_a_failure_after_more_than_a_minute_is_not_fast(site: Site) -> None:
    site.submit(9)
    site.run(*fails(0, 1))
    site.end(site.claim(2), 63)
    assert site.throttles() == []
    site.run(*fails(64, 65))
    assert site.throttles() == []
    site.run(*fails(66))
    assert len(site.throttles()) == 1


def test_a_batch_may_say_no_and_ten_is_the_default(site: Site) -> None:
    site.submit(12, "no", "hardy")
    site.run(*fails(*range(12)))
    site.submit(11, "10", "usual")
    text = (site.directory / "of usual").read_text().replace("#JJ failure_throttle = 10\n", "")
    (site.directory / "of usual").write_text(text)
    site.run(*fails(*range(20, 29)))
    assert site.throttles() == []
    site.run(*fails(29))
    assert site.throttles() == [("usual", 90, 10)]


def test_the_ledger_is_asked_only_when_a_job_of_a_batch_failed_fast(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_calls(failure_throttle, "newest_ends", monkeypatch)
    told = count_calls(failure_throttle, "fold_journals", monkeypatch)
    submit_all(site.claimer.jar, [describe_command("false")] * 3)
    site.run(*fails(0, 1, 2))
    site.submit(9)
    site.run((3, SUCCEEDED), (4, SUCCEEDED))
    site.end(site.claim(5), 70)
    assert asked == told == []
    site.run(*fails(71))
    assert len(asked) == len(told) == 1


def test_failures_among_many_ends_of_others_are_found_by_the_indexes_alone(site: Site) -> None:
    site.submit(1)
    connection = site.claimer.jar.ledger.connection
    query = f"EXPLAIN QUERY PLAN {ask_closed._BATCH_ENDS}"
    plan = "\n".join(row[3] for row in connection.execute(query, ("wc", 60)))
    assert "SCAN job" not in plan and "TEMP B-TREE FOR ORDER BY" in plan.splitlines()[-1]
    assert "USING INDEX attempt_ended" in plan and "USING INDEX attempt_undecided" in plan


def test_what_waits_to_be_stored_is_stored_all_the_same(site: Site) -> None:
    site.submit(3)
    site.run(*fails(0, 1, 2))
    [name] = site.submit(1, category="STORAGE-tape")
    site.claimer.categories = ("STORAGE-tape", "")
    job = site.claim(4)
    assert job is not None and job.name == name


def test_a_job_put_there_by_hand_waits_too(rig: Rig, site: Site) -> None:
    site.submit(3)
    site.run(*fails(0, 1, 2))
    rig.drop("by hand", "#!/bin/sh\n#JJ batch = wc\n#JJ run_command = true\nexit 2\n")
    fill_ledger(site.claimer.jar.ledger)
    assert site.claim(4) is None
    site.claimer.passed_over.jobs.clear()
    job = site.claim(66)
    assert job is not None and job.name == "by hand"


def test_a_sleeping_worker_knows_when_a_throttled_batch_is_due(site: Site) -> None:
    site.submit(5)
    site.run(*fails(0, 1, 2))
    connection = site.claimer.jar.ledger.connection
    fill_ledger(site.claimer.jar.ledger)
    assert next_due(connection, ("",), site.began + 4) == pytest.approx(site.began + 63)
    assert next_due(connection, ("A", "B"), site.began + 4) is None
    assert next_due(connection, ("",), site.began + 64) is None


def test_a_throttle_is_seen_by_a_worker_with_another_ledger_when_it_has_folded(rig: Rig, site: Site) -> None:
    site.submit(5)
    site.run(*fails(0, 1, 2))
    rig.environment["JJ_LEDGER_HOME"] = str(site.directory / "home")
    other = make_claimer(rig, "b.1")
    fill_ledger(other.jar.ledger)
    assert claim_in_turns(other, site.began + 4, print) is None
    assert claim_in_turns(other, site.began + 64, print) is not None


def test_the_throttle_outlives_every_ledger(rig: Rig, site: Site) -> None:
    site.submit(5)
    site.run(*fails(0, 1, 2))
    [entry] = [entry for entry in entries(site.claimer.jar) if entry["entry"] == "throttle"]
    assert {name: entry[name] for name in ("batch", "failures")} == {"batch": "wc", "failures": 3}
    assert entry["until"] - entry["told_at"] == pytest.approx(60)
    rig.run("jobjar", "rebuild")
    assert [row["batch"] for row in rig.status()["throttled"]] == ["wc"]


def test_show_and_the_status_say_so(rig: Rig, site: Site) -> None:
    *_, name = site.submit(4)
    site.run(*fails(0, 0, 0))
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(site.began + 61))
    assert rig.show(name)["waits_because"][0].startswith(f"its batch is throttled until {until}, ")
    [row] = rig.status()["throttled"]
    assert (row["batch"], row["failures"], 0 < row["left_s"] <= 61) == ("wc", 3, True)
    assert "Throttled batches" in rig.run("system_status").stdout


@pytest.mark.slow
def test_a_batch_that_fails_fast_is_slowed_by_a_real_worker_and_others_go_on(rig: Rig, site: Site) -> None:
    names = site.submit(12, "4")
    others = submit_all(site.claimer.jar, [describe_command("true", priority=-1)] * 3)
    worker = rig.start_worker(JJ_STAGED_AHEAD="0")  # one that is claimed ahead is claimed before the throttle
    wait_until(lambda: set(others) <= set(rig.names("completed")), "the other jobs")
    assert "batch wc: 4 jobs failed fast in a row" in rig.stop_worker(worker)
    outcomes: list[Any] = [json.loads(rig.run("jobjar", "show", "--format", "json", name).stdout) for name in names]
    assert [described["outcome"] for described in outcomes] == [FAILED] * 4 + [None] * 8
    rig.assert_clean()
