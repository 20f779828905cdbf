"""Which of two entries about the same job, move or attempt counts: the statements by which apply.py writes them.

Each statement gives the same row in whatever order entries are folded, also if one is folded twice. Reads and writes nothing.
"""

from __future__ import annotations

# Most jobs have defaults in the other columns. Each column that is named costs a fold some tenths of a microsecond.
_PLAIN_COLUMNS = "uid, name, state, place, category, priority, moved_at, move_number, submitter, submitted_at"
_OTHER_COLUMNS = "retries, retry_delay_s, time_limit_s, kind, batch, seed, found_number, found_file, given, request"
ADD_PLAIN_JOB = f"INSERT OR IGNORE INTO job ({_PLAIN_COLUMNS}) VALUES ({', '.join('?' * 10)})"
ADD_WHOLE_JOB = f"""
INSERT OR IGNORE INTO job ({_PLAIN_COLUMNS}, not_before, held_reason, {_OTHER_COLUMNS}) VALUES ({", ".join("?" * 22)})"""

# What an entry says beats what a scan saw. If two entries are about one submission, the earlier stands. If their times
# are equal, the submitter's beats what was found in the file, and the later claim's beats an earlier claim's.
_FOUND_ORDER = "found_number retries retry_delay_s time_limit_s seed kind batch submitter found_file given"
SUBMIT = f"""
INSERT INTO job (uid, submitter, submitted_at, name, category, {_OTHER_COLUMNS}, priority, state, place)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 'limbo', 'limbo/' || ?4)
ON CONFLICT (uid) DO UPDATE SET
    submitter = excluded.submitter, submitted_at = excluded.submitted_at, retries = excluded.retries,
    retry_delay_s = excluded.retry_delay_s, time_limit_s = excluded.time_limit_s,
    kind = excluded.kind, batch = excluded.batch, seed = excluded.seed, found_number = excluded.found_number,
    found_file = excluded.found_file, given = excluded.given, request = excluded.request
WHERE submitted_at IS NULL OR found_number IS NULL OR excluded.submitted_at < submitted_at
    OR (excluded.submitted_at = submitted_at AND (excluded.found_number = 0 OR (found_number > 0
        AND ({", ".join(f"coalesce(excluded.{name}, -1)" for name in _FOUND_ORDER.split())})
            > ({", ".join(f"coalesce({name}, -1)" for name in _FOUND_ORDER.split())}))))"""

# `>=`: somebody may find a move (by_hand.py), and that may be folded before the program's own entry. The row is then as
# late as that entry, which knows more and replaces it. `name`: most moves keep it, and a column that is not set needs
# no write to its index. `+?`: a bare parameter in a comparison makes SQLite (with STAT4) plan the statement again at
# each call. `OR FAIL`: a refused row ends the statement, and it is the only row. Otherwise SQLite would copy pages before
# triggers write, to be able to put them back (schema/0006).
_LATER = """
(+?8 / 1000000, +?3 = 'completed', +?7, +?8, +?3 = 'claimed', +?4) {}
(move_number / 1000000, state = 'completed', moved_at, move_number, state = 'claimed', place)"""
MOVE_JOB = f"""
UPDATE OR FAIL job SET state = ?3, place = ?4, category = ?5, priority = ?6, moved_at = ?7, move_number = ?8, not_before = ?9,
    held_reason = ?10
WHERE uid = +?1 AND name = +?2 AND {_LATER.format(">=")}"""
_MOVE_ANY_JOB = """
UPDATE OR FAIL job SET name = ?2, state = ?3, place = ?4, category = ?5, priority = ?6, moved_at = ?7, move_number = ?8,
    not_before = ?9, held_reason = ?10
WHERE uid = +?1 AND {}"""
MOVE_AND_RENAME_JOB, MOVE_FOUND_JOB = (_MOVE_ANY_JOB.format(_LATER.format(sign)) for sign in (">=", ">"))
ADD_JOB = """
INSERT OR IGNORE INTO job (uid, name, state, place, category, priority, moved_at, move_number, not_before, held_reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A hand-made submission gets its id with its first claim. Until then a ledger knows it by its place alone.
FORGET_UNNAMED = "DELETE FROM job WHERE uid IS NULL AND name = ? AND place = ?"

# One move may have two entries: by the program that made it, and by somebody who found it. The program's stands.
ADD_MOVE = """
INSERT INTO move (job_uid, number, moved_at, destination, origin, reason, actor) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET origin = excluded.origin, reason = excluded.reason, actor = excluded.actor
WHERE (excluded.reason = 'found', excluded.reason, excluded.actor, excluded.origin) < (reason = 'found', reason, actor, origin)"""
# Several may notice at different times that a file is gone. The earliest time is kept.
KEEP_FIRST_REMOVAL = """
DELETE FROM move WHERE job_uid = ?1 AND number = ?2 AND destination = ''
AND moved_at > (SELECT min(moved_at) FROM move WHERE job_uid = ?1 AND number = ?2 AND destination = '')"""

CLAIM_ATTEMPT = """
INSERT INTO attempt (job_uid, number, worker_uid, worker, started_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET started_at = coalesce(started_at, excluded.started_at)"""

START = """
INSERT INTO attempt (job_uid, number, worker_uid, worker, pid, pid_started) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET pid = excluded.pid, pid_started = excluded.pid_started"""

# An attempt that was lost stays lost. Then an end that completed the job beats one that did not: a recovery that was
# about to return a job may find that its worker has just completed it. Then the worker's own entry beats a recovery's
# guess. If they are equal so far, the earlier stands. Two recoveries may read the same time from the disk: then the rest
# of their entries decides.
_END_COLUMNS = """job_uid, number, worker_uid, worker, pid, pid_started, ended_at, outcome, is_final, exit_status, signal,
wall_time_s, user_cpu_s, system_cpu_s, max_rss_kib, output_file, message"""
_REST_OF_END = "outcome message output_file exit_status signal wall_time_s user_cpu_s system_cpu_s max_rss_kib"
END = f"""
INSERT INTO attempt ({_END_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET
    pid = coalesce(pid, excluded.pid), pid_started = coalesce(pid_started, excluded.pid_started),
    ended_at = excluded.ended_at, outcome = excluded.outcome, is_final = excluded.is_final,
    exit_status = excluded.exit_status, signal = excluded.signal, wall_time_s = excluded.wall_time_s,
    user_cpu_s = excluded.user_cpu_s, system_cpu_s = excluded.system_cpu_s, max_rss_kib = excluded.max_rss_kib,
    output_file = excluded.output_file, message = excluded.message
WHERE ended_at IS NULL
   OR (excluded.outcome = 'lost', excluded.is_final, excluded.outcome NOT IN ('stranded', 'crashed'), -excluded.ended_at,
       {", ".join(f"coalesce(excluded.{name}, -1)" for name in _REST_OF_END.split())})
    > (outcome = 'lost', is_final, outcome NOT IN ('stranded', 'crashed'), -ended_at,
       {", ".join(f"coalesce({name}, -1)" for name in _REST_OF_END.split())})"""
# The process is kept whichever entry stands: a recovery, and a worker that lost the job, may not know it.
KNOW_PROCESS = """
UPDATE attempt SET pid = ?4, pid_started = ?5 WHERE job_uid = ?1 AND number = ?2 AND worker_uid = ?3 AND pid IS NULL"""
ADD_WHOLE_ATTEMPT = f"""
INSERT OR IGNORE INTO attempt ({_END_COLUMNS}, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# Of the ends that completed a job, the latest. `end` is the attempt's name in the query.
IS_LATEST = (
    "NOT EXISTS (SELECT 1 FROM attempt AS later WHERE later.job_uid = {end}.job_uid AND later.is_final = 1 "
    "AND (later.number, later.ended_at, later.worker_uid) > ({end}.number, {end}.ended_at, {end}.worker_uid))"
)
