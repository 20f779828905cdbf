"""The only table of settings: name, type, default and help of each. Manual pages and `jobjar config` are made from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jobjar.settings.parsers import (
    parse_after_failure,
    parse_categories,
    parse_cores,
    parse_count,
    parse_days,
    parse_memory,
    parse_named,
    parse_node,
    parse_optional_slots,
    parse_path,
    parse_positive_seconds,
    parse_size,
    parse_slots,
    parse_text,
    parse_umask,
)
from jobjar.units import parse_retries, parse_seconds


def _parse_lease(text: str) -> float:
    seconds = parse_seconds(text)
    if 0 < seconds < 1:
        raise ValueError(f"{text!r} is less than 1 second, in which no heartbeat can be relied on; 0 turns leases off")
    return seconds


class Setting(NamedTuple):
    """One row of the table. `default` is text, as in a configuration file."""

    name: str
    attribute: str
    parse: Callable[[str], Any]
    default: str
    help: str
    layers: str = "file, environment"


TABLE: tuple[Setting, ...] = (
    Setting(
        "JJ_HOME",
        "home",
        parse_path,
        "",
        "The jar: the parent of unclaimed, claimed, completed and limbo. "
        "Default: the directory above the bin directory that the program is run from.",
        "file, environment, library",
    ),
    Setting(
        "JJ_WORKER_HOME",
        "worker_home",
        parse_path,
        "",
        "The parent of the workers' directories. Default: $JJ_HOME/workers.",
        "file, environment, library",
    ),
    Setting(
        "JJ_CONFIG_FILE",
        "config_file",
        parse_path,
        "",
        "The personal configuration file. Default: ~/.jobjar/config.ini.",
        "environment",
    ),
    Setting(
        "JJ_NODE",
        "node",
        parse_node,
        "",
        "This node's name, part of its workers' names and its implicit category. Name each of several containers of one "
        "machine. Default: what hostname prints.",
        "environment",
    ),
    Setting(
        "JJ_PAUSE_TIME",
        "pause_time_s",
        parse_positive_seconds,
        "60",
        "How long a worker sleeps when it is paused or finds no job, in seconds, made up to 10 % "
        "(at most 10 s) longer or shorter at random. A local submission wakes it at once. On a network disk also the longest "
        "time between two looks of an idle worker at what other nodes did.",
        "file, environment, library",
    ),
    Setting(
        "JJ_MAX_WORKERS",
        "max_workers",
        parse_count,
        "4",
        "How many workers check_workers keeps running on this node, storage workers not counted.",
    ),
    Setting(
        "JJ_MAX_STORAGE_WORKERS",
        "max_storage_workers",
        parse_count,
        "1",
        "How many storage workers check_workers --storage CLASS... keeps running on this node, of just those classes.",
    ),
    Setting(
        "JJ_CATEGORIES",
        "categories",
        parse_categories,
        "",
        "The categories that a worker asks for jobs, in order, separated by spaces or commas: after the category named "
        "like its node and before the uncategorized jobs.",
        "file, environment, library",
    ),
    Setting(
        "JJ_POLL_TIME",
        "poll_time_s",
        parse_positive_seconds,
        "1",
        "How often, in seconds, a node looks at what other nodes did. Where nothing has come for long its workers look less "
        "often, up to JJ_PAUSE_TIME.",
    ),
    Setting(
        "JJ_GRACE_TIME",
        "grace_time_s",
        parse_seconds,
        "10",
        "Seconds from the SIGTERM to the SIGKILL when a job is ended: at its time limit, by a kill, or with its worker.",
    ),
    Setting(
        "JJ_HEARTBEAT_TIME",
        "heartbeat_time_s",
        parse_positive_seconds,
        "30",
        "How often, in seconds, a worker touches its heartbeat file; more often where JJ_LEASE_TIME needs it.",
    ),
    Setting(
        "JJ_LEASE_TIME",
        "lease_time_s",
        _parse_lease,
        "0",
        "Seconds without a heartbeat after which any node's recover_jobs, and workers that have nothing to do, take a "
        "worker's jobs back. Workers then touch their heartbeats at least four times in that time. 0: never; only a "
        "worker's own node takes its jobs back.",
    ),
    Setting(
        "JJ_CRASH_LIMIT",
        "crash_limit",
        parse_count,
        "5",
        "How often a job may be stranded before it completes with outcome crashed. 0: without limit.",
    ),
    Setting(
        "JJ_RETRIES",
        "retries",
        parse_retries,
        "0",
        "How often a job that failed is run again, or unlimited, where it says nothing itself.",
    ),
    Setting(
        "JJ_RETRY_DELAY",
        "retry_delay_s",
        parse_seconds,
        "0",
        "Seconds before a failed job's first retry, doubled for each further one up to a day, where it says nothing itself.",
    ),
    Setting(
        "JJ_TIME_LIMIT",
        "time_limit_s",
        parse_seconds,
        "0",
        "Seconds after which a running job is ended, where it says nothing itself. 0: without limit.",
    ),
    Setting(
        "JJ_EXIT_ON_FAILURE",
        "exit_on_failure",
        parse_after_failure,
        "",
        "Whether a worker leaves after a job that failed: yes; no; or restart, which has a fresh worker take its place after a "
        "pause. It ends what it has under way first. Default: restart after described jobs, no after plain ones.",
    ),
    Setting(
        "JJ_FAILURE_PAUSE",
        "failure_pause_s",
        parse_seconds,
        "10",
        "Seconds for which a worker pauses before a fresh one takes its place after a failure, doubled with each failure in a "
        "row. 0: not at all.",
    ),
    Setting(
        "JJ_LONGEST_FAILURE_PAUSE",
        "longest_failure_pause_s",
        parse_seconds,
        "600",
        "The longest that such a pause becomes, in seconds.",
    ),
    Setting(
        "JJ_SSH",
        "ssh",
        parse_text,
        "ssh",
        "The words before a host's name with which `start_worker --on` reaches it, such as `ssh -F FILE`.",
    ),
    Setting(
        "JJ_ON_END",
        "on_end",
        parse_text,
        "",
        "A command for /bin/sh that a worker runs when a job has ended, when the last job of a batch has, and when no job waits "
        "or runs any more. Variables tell it which (JJ_ENDED) and how. Default: none.",
    ),
    Setting(
        "JJ_ARCHIVE_AFTER",
        "archive_after_days",
        parse_days,
        "30",
        "Days after which the nightly job moves a completed job, and the directory of a worker that ended, to archive/. "
        "0: never.",
    ),
    Setting(
        "JJ_KEEP_COMPLETED",
        "keep_completed_days",
        parse_days,
        "0",
        "Days after its end at which the nightly job deletes a completed job's file; its history stays. 0: kept for ever.",
    ),
    Setting(
        "JJ_KEEP_WORKERS",
        "keep_workers_days",
        parse_days,
        "0",
        "Days after which the nightly job deletes the directory of a worker that ended, with its log and its jobs' output. "
        "0: kept for ever.",
    ),
    Setting(
        "JJ_UMASK",
        "umask",
        parse_umask,
        "",
        "The umask of workers, their jobs and all that programs make in the jar, in octal. Default: for jobs, and for files that "
        "are stored or fetched, the umask with which their worker or program was started; for the rest what the mode of the "
        "jar's directory leaves out for its group and others, and never writing by others: 077 in a jar that is 0700, as "
        "`jobjar init` makes it, 007 in one made with --group.",
    ),
    Setting(
        "JJ_DISK_PATIENCE",
        "disk_patience_s",
        parse_seconds,
        "150",
        "Seconds for which a program tries again what a network disk refuses for the moment (its server is away, say) before "
        "it gives up; workers go on trying. 0: not at all.",
    ),
    Setting(
        "JJ_SLOTS",
        "slots",
        parse_optional_slots,
        "",
        "How many jobs of any kind a worker runs at once, if start_worker --slots does not say: 1, or as many as JJ_CORES says. "
        "With more than 1 they are also its run slots for described jobs.",
    ),
    Setting(
        "JJ_CORES",
        "cores",
        parse_cores,
        "",
        "How many cores the jobs of a worker have together, or all, if start_worker --cores does not say. Never more than the "
        "worker may use.",
    ),
    Setting(
        "JJ_MEMORY",
        "memory",
        parse_memory,
        "",
        "How much memory the jobs of a worker have together, in bytes or with K, M, G or T, or all, if start_worker --memory "
        "does not say. Default: all that it may use.",
    ),
    Setting(
        "JJ_GPUS",
        "gpus",
        parse_text,
        "",
        "The GPUs that the jobs of a worker have, by their numbers (0,1), or all, or none, if start_worker --gpus does not say. "
        "Default: those of CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES.",
    ),
    Setting(
        "JJ_RESOURCES",
        "resources",
        parse_named,
        "",
        "What else the jobs of a worker have together (licence=2 disk=1), if start_worker --resource does not say.",
    ),
    Setting(
        "JJ_PASS_OVER",
        "pass_over_s",
        parse_seconds,
        "600",
        "For how long, in seconds, a worker passes over a job for which it has not enough left. Then it keeps what becomes free "
        "for that job.",
    ),
    Setting(
        "JJ_STAGE_IN_SLOTS",
        "stage_in_slots",
        parse_slots,
        "1",
        "How many described jobs a worker stages in at once.",
    ),
    Setting(
        "JJ_RUN_SLOTS",
        "run_slots",
        parse_slots,
        "1",
        "How many described jobs a worker runs or polls at once: more than 1 where they run in some other queue.",
    ),
    Setting(
        "JJ_STAGE_OUT_SLOTS",
        "stage_out_slots",
        parse_slots,
        "1",
        "How many described jobs a worker stages out at once.",
    ),
    Setting(
        "JJ_STAGED_AHEAD",
        "staged_ahead",
        parse_count,
        "1",
        "How many described jobs a worker stages in, or has staged in, while all its run slots are taken. 0: the next job is "
        "claimed when one is free.",
    ),
    Setting(
        "JJ_STAGE_OUT_QUEUE",
        "stage_out_queue",
        parse_count,
        "1",
        "How many described jobs that have run may be staged out, or wait for it, while a worker runs the next. 0: the next "
        "one starts when the last one is staged out.",
    ),
    Setting(
        "JJ_POLLING_TIME",
        "polling_time_s",
        parse_positive_seconds,
        "60",
        "How often, in seconds, a described job's polling_command is called, where the job does not say.",
    ),
    Setting(
        "JJ_PROGRESS_TIME",
        "progress_time_s",
        parse_positive_seconds,
        "30",
        "How often, in seconds, the monitored variables of a job are read while it runs; of one that says much, less often.",
    ),
    Setting(
        "JJ_STORAGE_PATH",
        "storage_path",
        parse_path,
        "",
        "Where the output files of described jobs are stored. Default: $JJ_HOME/storage.",
    ),
    Setting(
        "JJ_STORAGE_SOFTWARE",
        "storage_software",
        parse_text,
        "",
        "A software package whose storage_command stores the published files in place of the stock handler.",
    ),
    Setting(
        "JJ_INPUT_CACHE",
        "input_cache",
        parse_path,
        "",
        "Where this node keeps copies of input files and packages for its next jobs. Default: /var/tmp/jobjar-<uid>/cache.",
    ),
    Setting(
        "JJ_INPUT_CACHE_SIZE",
        "input_cache_size",
        parse_size,
        "10G",
        "How large that may grow, in bytes or with K, M, G or T (powers of 1024); what was used longest ago is removed. 0: no "
        "copies are kept.",
    ),
    Setting(
        "JJ_LEDGER_HOME",
        "ledger_home",
        parse_path,
        "",
        "Where this node keeps its ledger. Default: the jar's ledger directory on a local disk, "
        "/var/tmp/jobjar-<uid>/<jar id> where the jar is on a network disk.",
    ),
)
BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}
