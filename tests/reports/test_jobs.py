"""What is known of a job (reports/jobs.py)."""

from __future__ import annotations

from jobjar.reports.jobs import describe_job, explain_waiting
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from tests.rig import Rig


def test_a_job_that_gets_its_id_while_it_is_described_is_described_as_it_was(rig: Rig) -> None:
    rig.drop("plain", "#!/bin/sh\n")
    jar = rig.open()
    refresh_ledger(jar)
    job = find_job(jar, "plain")
    assert explain_waiting(jar, job) != []
    rig.run_until_idle()
    refresh_ledger(jar)
    assert describe_job(jar, job)["state"] == "unclaimed" and explain_waiting(jar, job) == []
