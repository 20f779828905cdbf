"""The ledger's tables as peewee models, for the queries of people's commands. A test compares them with schema/."""

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


class AttemptFile(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    stream = peewee.TextField()
    path = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "stream")


class Worker(NumberedTable):
    uid = peewee.TextField(unique=True)
    name = peewee.TextField()
    node = peewee.TextField()
    pid = peewee.IntegerField()
    boot_id = peewee.TextField(null=True)
    process_started = peewee.FloatField(null=True)
    user = peewee.TextField(null=True)
    categories = peewee.TextField(null=True)
    version = peewee.TextField(null=True)
    started_at = peewee.FloatField(null=True)
    ended_at = peewee.FloatField(null=True)
    end_reason = peewee.TextField(null=True)


class Batch(NumberedTable):
    name = peewee.TextField(unique=True)
    submitter = peewee.TextField(null=True)
    submitted_at = peewee.FloatField(null=True)
    description = peewee.TextField(null=True)
    changed_at = peewee.FloatField(default=0)
    is_aborted = peewee.IntegerField(default=0)
    jobs = peewee.IntegerField(null=True)
    notes = peewee.TextField(null=True)
    restarted_until = peewee.FloatField(default=0)


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


class Warning(Table):
    job_uid = peewee.TextField()
    attempt = peewee.IntegerField()
    worker_uid = peewee.TextField()
    number = peewee.IntegerField()
    text = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("job_uid", "attempt", "worker_uid", "number")


class Throttle(Table):
    batch = peewee.TextField(primary_key=True)
    told_at = peewee.FloatField()
    until = peewee.FloatField()
    failures = peewee.IntegerField()


class FileMark(Table):
    mark = peewee.TextField()
    job_uid = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("mark", "job_uid")


class Counted(Table):
    job_id = peewee.IntegerField(null=True)
    minute = peewee.IntegerField(null=True)

    class Meta:
        primary_key = False


class JobCount(Table):
    state = peewee.TextField(null=True)
    category = peewee.TextField(null=True)
    priority = peewee.IntegerField(null=True)
    kind = peewee.TextField(null=True)
    jobs = peewee.IntegerField(null=True)

    class Meta:
        primary_key = False


class AttemptCount(Table):
    minute = peewee.IntegerField(null=True)
    outcome = peewee.TextField(null=True)
    is_final = peewee.IntegerField(null=True)
    attempts = peewee.IntegerField(null=True)

    class Meta:
        primary_key = False


class DirectoryLook(Table):
    place = peewee.TextField(primary_key=True)
    changed_ns = peewee.IntegerField()
    jobs = peewee.IntegerField()
    took_s = peewee.FloatField()
    compared_at = peewee.FloatField()


class OtherFile(Table):
    place = peewee.TextField(primary_key=True)
    reason = peewee.TextField()


class JournalPosition(Table):
    journal = peewee.TextField(primary_key=True)
    offset = peewee.IntegerField()
    torn_lines = peewee.IntegerField(default=0)


class Migration(Table):
    name = peewee.TextField(primary_key=True)
    sha256 = peewee.TextField()
    applied_at = peewee.FloatField()


MODELS = (
    Job,
    Move,
    Attempt,
    Phase,
    Warning,
    MonitoredVariable,
    VariableHistory,
    StoredFile,
    AttemptFile,
    Worker,
    Batch,
    Throttle,
    FileMark,
    Counted,
    JobCount,
    AttemptCount,
    DirectoryLook,
    OtherFile,
    JournalPosition,
    Migration,
)
VIEWS = (JobReport,)
