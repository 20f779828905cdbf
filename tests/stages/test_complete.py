from __future__ import annotations

import pytest

from jobjar.attempts.attempt import OUTCOMES, RETRIED_OUTCOMES, AttemptEnd, ClaimedJob
from jobjar.attempts.verdict import Verdict, decide

NOW = 1000.0
JOB = ClaimedJob(
    uid="u",
    name="x",
    path="/jar/workers/rain.7/jobs/x",
    place="workers/rain.7/jobs/x",
    category="",
    priority=0,
    submitter="ann",
    attempt=1,
    move_number=2,
    retries=3,
    retry_delay_s=10.0,
    time_limit_s=0.0,
    link="",
    claimed_at=NOW - 1,
)


def ended(outcome: str, retry_after_s: float = 0.0) -> AttemptEnd:
    return AttemptEnd(outcome, 1, wall_time_s=1.0, retry_after_s=retry_after_s)


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - set(RETRIED_OUTCOMES)))
def test_a_job_that_did_not_fail_completes_whatever_retries_it_has(outcome: str) -> None:
    verdict = decide(JOB, ended(outcome), 0, NOW)
    assert (verdict.final, verdict.reason, verdict.not_before) == (True, "completed", 0)


@pytest.mark.parametrize("outcome", RETRIED_OUTCOMES)
def test_a_failed_job_is_retried_until_its_retries_are_used_up(outcome: str) -> None:
    finals = [decide(JOB, ended(outcome), failures, NOW).final for failures in range(5)]
    assert finals == [False, False, False, True, True]


def test_each_retry_waits_twice_as_long_as_the_one_before() -> None:
    waits = [decide(JOB, ended("failed"), failures, NOW).not_before - NOW for failures in range(3)]
    assert waits == [10.0, 20.0, 40.0]


def test_without_a_delay_a_retry_may_be_claimed_at_once() -> None:
    verdict = decide(JOB._replace(retry_delay_s=0.0), ended("failed"), 0, NOW)
    assert (verdict.final, verdict.reason, verdict.not_before) == (False, "retried", 0)


def test_a_job_without_retries_completes_with_its_first_failure() -> None:
    assert decide(JOB._replace(retries=0), ended("failed"), 0, NOW).final


@pytest.mark.parametrize("failures", [0, 3, 99])
def test_an_interrupted_job_is_returned_without_counting_against_its_retries(failures: int) -> None:
    verdict = decide(JOB._replace(retries=0), ended("interrupted"), failures, NOW)
    assert (verdict.final, verdict.reason, verdict.not_before) == (False, "returned", 0)


def test_a_verdict_is_one_of_three_and_its_explanation_is_no_part_of_it() -> None:
    over, again, back = Verdict.complete("crashed thrice"), Verdict.retry(NOW), Verdict.give_back("recovered", NOW)
    assert [(verdict.final, verdict.is_retry) for verdict in (over, again, back)] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert [verdict.reason for verdict in (over, again, back)] == ["completed", "retried", "recovered"]
    assert over.explanation == "crashed thrice"


def test_an_interrupted_job_may_say_when_it_is_to_be_tried_again() -> None:
    assert decide(JOB, ended("interrupted", 5.0), 0, NOW).not_before == NOW + 5
