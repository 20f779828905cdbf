"""Tables and views of the ledger as peewee models, for the questions that people ask: those that a question uses, and no others.

A test compares them with schema/. What is written, and what workers, recovery and waiting ask, is SQL (DESIGN.md, section 14).
"""

from __future__ import annotations

import peewee


class Table(peewee.Model):
    class Meta:
        legacy_table_names = False


class NumberedTable(Table):
    id = peewee.AutoField()


class Job(NumberedTable):
    uid = peewee.TextField(null=True, unique=True)
    name = peewee.TextField()
    state = peewee.TextField()
    place = peewee.TextField()
    category = peewee.TextField(default="")
    priority = peewee.IntegerField(default=0)
    submitter = peewee.TextField(null=True)
    submitted_at = peewee.FloatField(null=True)
    retries = peewee.IntegerField(null=True)
    retry_delay_s = peewee.FloatField(null=True)
    time_limit_s = peewee.FloatField(null=True)
    not_before = peewee.FloatField(default=0)
    held_reason = peewee.TextField(null=True)
    moved_at = peewee.FloatField(default=0)
    move_number = peewee.IntegerField(default=0)
    kind = peewee.TextField(default="")
    batch = peewee.TextField(null=True)
    seed = peewee.IntegerField(null=True)
    found_number = peewee.IntegerField(null=True, default=0)
    found_file = peewee.TextField(null=True)
    given = peewee.TextField(null=True)
    request = peewee.TextField(default="")


class JobReport(Job):
    """The view job_report: a job with the attempt that decided it."""

    outcome = peewee.TextField(null=True)
    exit_status = peewee.IntegerField(null=True)
    signal = peewee.IntegerField(null=True)
    ended_at = peewee.FloatField(null=True)
    final_worker = peewee.TextField(null=True)

    class Meta:
        table_name = "job_report"


class Move(Table):
    job_uid = peewee.TextField()
    number = peewee.IntegerField()
    moved_at = peewee.FloatField()
    origin = peewee.TextField()
    destination = peewee.TextField()
    reason = peewee.TextField()
    actor = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "number", "moved_at", "destination")


class Attempt(Table):
    job_uid = peewee.TextField()
    number = peewee.IntegerField()
    worker = peewee.TextField()
    worker_uid = peewee.TextField()
    started_at = peewee.FloatField(null=True)
    pid = peewee.IntegerField(null=True)
    pid_started = peewee.FloatField(null=True)
    ended_at = peewee.FloatField(null=True)
    outcome = peewee.TextField(null=True)
    is_final = peewee.IntegerField(default=0)
    exit_status = peewee.IntegerField(null=True)
    signal = peewee.IntegerField(null=True)
    wall_time_s = peewee.FloatField(null=True)
    user_cpu_s = peewee.FloatField(null=True)
    system_cpu_s = peewee.FloatField(null=True)
    max_rss_kib = peewee.IntegerField(null=True)
    output_file = peewee.TextField(null=True)
    message = peewee.TextField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "number", "worker_uid")


class MonitoredVariable(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    name = peewee.TextField()
    value = peewee.TextField()
    number = peewee.FloatField(null=True)
    told_at = peewee.FloatField(default=0)
    ordinal = peewee.IntegerField(default=1)

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "name")


class VariableHistory(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    name = peewee.TextField()
    ordinal = peewee.IntegerField()
    told_at = peewee.FloatField()
    value = peewee.TextField()
    number = peewee.FloatField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "name", "ordinal")


class StoredFile(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    source_name = peewee.TextField()
    storage_name = peewee.TextField(null=True)
    storage_hfn = peewee.TextField(null=True)
    storage_url = peewee.TextField(null=True)
    storage_size = peewee.IntegerField(null=True)
    storage_md5 = peewee.TextField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "source_name")


class Phase(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    name = peewee.TextField()
    began_at = peewee.FloatField()
    ended_at = peewee.FloatField(null=True)
    exit_status = peewee.IntegerField(null=True)
    message = peewee.TextField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "name")


class AttemptWarning(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    number = peewee.IntegerField()
    text = peewee.TextField()

    class Meta:
        table_name = "warning"
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "number")


class Throttle(Table):
    batch = peewee.TextField(primary_key=True)
    told_at = peewee.FloatField()
    until = peewee.FloatField()
    failures = peewee.IntegerField()


class Report(Table):
    """A view, whose rows nothing numbers."""

    class Meta:
        primary_key = False


class StateReport(Report):
    state = peewee.TextField(null=True)
    jobs = peewee.IntegerField(null=True)


class ClaimedReport(Report):
    uid = peewee.TextField(null=True)
    name = peewee.TextField()
    category = peewee.TextField()
    priority = peewee.IntegerField()
    place = peewee.TextField()
    claimed_at = peewee.FloatField(null=True)
    age_s = peewee.FloatField(null=True)


class OldestWaitingReport(Report):
    uid = peewee.TextField(null=True)
    name = peewee.TextField()
    category = peewee.TextField()
    priority = peewee.IntegerField()
    submitted_at = peewee.FloatField(null=True)
    age_s = peewee.FloatField(null=True)


class HeldReport(Report):
    uid = peewee.TextField(null=True)
    name = peewee.TextField()
    place = peewee.TextField()
    held_reason = peewee.TextField(null=True)


class QueueReport(Report):
    category = peewee.TextField()
    priority = peewee.IntegerField()
    waiting = peewee.IntegerField(null=True)
    oldest_at = peewee.FloatField(null=True)


class OutcomeReport(Report):
    outcome = peewee.TextField(null=True)
    last_hour = peewee.IntegerField(null=True)
    last_day = peewee.IntegerField(null=True)


class AttemptReport(OutcomeReport):
    """The same of attempts that completed no job."""


class ThroughputReport(Report):
    completed_last_hour = peewee.IntegerField(null=True)
    per_s_last_hour = peewee.FloatField(null=True)
    completed_last_day = peewee.IntegerField(null=True)
    per_s_last_day = peewee.FloatField(null=True)


class JobCountReport(Report):
    state = peewee.TextField()
    category = peewee.TextField()
    priority = peewee.IntegerField()
    kind = peewee.TextField()
    jobs = peewee.IntegerField(null=True)


class OpenJobReport(Report):
    uid = peewee.TextField(null=True)
    name = peewee.TextField()
    batch = peewee.TextField(null=True)
    seed = peewee.IntegerField(null=True)
    category = peewee.TextField()
    state = peewee.TextField()
    place = peewee.TextField()
    moved_at = peewee.FloatField()
    move_number = peewee.IntegerField()
    phase = peewee.TextField(null=True)


class BatchOutcomeReport(Report):
    batch = peewee.TextField(null=True)
    outcome = peewee.TextField(null=True)
    jobs = peewee.IntegerField(null=True)


class BatchRestartedReport(BatchOutcomeReport):
    """The same of jobs in whose place others were submitted."""


class BatchFailureReport(Report):
    batch = peewee.TextField(null=True)
    failures = peewee.IntegerField(null=True)


class BatchStorageReport(Report):
    batch = peewee.TextField(null=True)
    files = peewee.IntegerField(null=True)
    bytes = peewee.IntegerField(null=True)


TABLES = (Job, Move, Attempt, Phase, AttemptWarning, MonitoredVariable, VariableHistory, StoredFile, Throttle)
VIEWS = (
    *(
        JobReport,
        StateReport,
        ClaimedReport,
        OldestWaitingReport,
        HeldReport,
        QueueReport,
        OutcomeReport,
        AttemptReport,
    ),
    *(ThroughputReport, JobCountReport, OpenJobReport),
    *(BatchOutcomeReport, BatchRestartedReport, BatchFailureReport, BatchStorageReport),
)
