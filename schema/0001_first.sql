-- The first ledger. Times are UTC epoch seconds. A job's uid is what people see as its id; job.id is this ledger's own
-- row number and differs from one ledger to the next.

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    uid TEXT UNIQUE,                      -- NULL: a hand-made submission that nobody has claimed yet
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('limbo', 'unclaimed', 'claimed', 'completed', 'removed')),
    place TEXT NOT NULL,                  -- relative to the jar
    category TEXT NOT NULL DEFAULT '',    -- '': uncategorized
    priority INTEGER NOT NULL DEFAULT 0,
    submitter TEXT,
    submitted_at REAL,                    -- by the disk's clock
    retries INTEGER,                      -- NULL: the worker's setting
    retry_delay_s REAL,
    time_limit_s REAL,
    not_before REAL NOT NULL DEFAULT 0,   -- a delayed retry is not claimed earlier
    held_reason TEXT,                     -- why it was put into limbo
    moved_at REAL NOT NULL DEFAULT 0,     -- of the latest move, by the disk's clock
    move_number INTEGER NOT NULL DEFAULT 0
);
-- Used by queries that say `state <> 'completed'` themselves (SQLite, partial indexes); completed jobs cost it nothing.
CREATE INDEX job_open ON job (state, category, priority DESC, submitted_at, id) WHERE state <> 'completed';
CREATE INDEX job_name ON job (name);

CREATE TABLE move (
    job_uid TEXT NOT NULL,
    number INTEGER NOT NULL,              -- the job's first move is 1
    moved_at REAL NOT NULL,
    origin TEXT NOT NULL,
    destination TEXT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,                  -- the worker or the user
    PRIMARY KEY (job_uid, number, moved_at, destination)
) WITHOUT ROWID;

CREATE TABLE attempt (
    job_uid TEXT NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,                 -- node.pid
    worker_uid TEXT NOT NULL,
    started_at REAL,
    pid INTEGER,                          -- of the job's main process, which leads its session
    pid_started REAL,
    ended_at REAL,
    outcome TEXT,                         -- succeeded failed timed_out killed cancelled crashed; stranded interrupted lost
    is_final INTEGER NOT NULL DEFAULT 0,  -- 1: the job completed with this attempt
    exit_status INTEGER,
    signal INTEGER,
    wall_time_s REAL,
    user_cpu_s REAL,
    system_cpu_s REAL,
    max_rss_kib INTEGER,
    output_file TEXT,                     -- in the worker's output directory; NULL: it wrote nothing
    message TEXT,
    PRIMARY KEY (job_uid, number, worker_uid)
) WITHOUT ROWID;
CREATE INDEX attempt_ended ON attempt (ended_at, outcome) WHERE is_final = 1;
-- Those that did not complete their job: few, and an attempt that does never gets into it.
CREATE INDEX attempt_undecided ON attempt (ended_at, outcome) WHERE is_final = 0 AND ended_at IS NOT NULL;

CREATE TABLE monitored_variable (
    id INTEGER PRIMARY KEY,
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    number REAL,                          -- the value, where it is a number
    UNIQUE (job_uid, attempt, worker_uid, name)
);

CREATE TABLE stored_file (
    id INTEGER PRIMARY KEY,
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    source_name TEXT NOT NULL,
    storage_name TEXT,
    storage_hfn TEXT,
    storage_url TEXT,
    storage_size INTEGER,
    storage_md5 TEXT,
    UNIQUE (job_uid, attempt, worker_uid, source_name)
);

CREATE TABLE worker (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,                   -- node.pid
    node TEXT NOT NULL,
    pid INTEGER NOT NULL,
    boot_id TEXT,
    process_started REAL,
    user TEXT,
    categories TEXT,
    version TEXT,
    started_at REAL,
    ended_at REAL,
    end_reason TEXT
);

CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    submitter TEXT,
    submitted_at REAL,
    description TEXT
);

CREATE TABLE journal_position (
    journal TEXT PRIMARY KEY,
    offset INTEGER NOT NULL,
    torn_lines INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE VIEW queue_report AS
    SELECT category, priority, count(*) AS waiting, min(submitted_at) AS oldest_at
    FROM job WHERE state <> 'completed' AND state = 'unclaimed'
    GROUP BY category, priority
    ORDER BY category, priority DESC;

CREATE VIEW state_report AS
    SELECT state, count(*) AS jobs FROM job GROUP BY state;

CREATE VIEW claimed_report AS
    SELECT job.uid, job.name, job.category, job.priority, job.place, job.moved_at AS claimed_at,
           max(0, (julianday('now') - 2440587.5) * 86400.0 - job.moved_at) AS age_s
    FROM job WHERE state <> 'completed' AND state = 'claimed'
    ORDER BY job.moved_at;

CREATE VIEW oldest_waiting_report AS
    SELECT uid, name, category, priority, submitted_at,
           max(0, (julianday('now') - 2440587.5) * 86400.0 - submitted_at) AS age_s
    FROM job WHERE state <> 'completed' AND state = 'unclaimed'
    ORDER BY submitted_at LIMIT 1;

CREATE VIEW held_report AS
    SELECT uid, name, place, held_reason FROM job WHERE state <> 'completed' AND state = 'limbo';

CREATE VIEW outcome_report AS
    SELECT outcome,
           sum(ended_at > (julianday('now') - 2440587.5) * 86400.0 - 3600) AS last_hour,
           count(*) AS last_day
    FROM attempt
    WHERE is_final = 1 AND ended_at > (julianday('now') - 2440587.5) * 86400.0 - 86400
    GROUP BY outcome ORDER BY outcome;

-- Attempts that ended without completing their job, apart from the jobs' outcomes: a lost lease (lost), a crash (stranded),
-- a worker told to end (interrupted), a failure that is tried again (failed, timed_out).
CREATE VIEW attempt_report AS
    SELECT outcome,
           sum(ended_at > (julianday('now') - 2440587.5) * 86400.0 - 3600) AS last_hour,
           count(*) AS last_day
    FROM attempt
    WHERE is_final = 0 AND ended_at IS NOT NULL AND ended_at > (julianday('now') - 2440587.5) * 86400.0 - 86400
    GROUP BY outcome ORDER BY outcome;

CREATE VIEW throughput_report AS
    SELECT coalesce(sum(last_hour), 0) AS completed_last_hour, coalesce(sum(last_hour), 0) / 3600.0 AS per_s_last_hour,
           coalesce(sum(last_day), 0) AS completed_last_day, coalesce(sum(last_day), 0) / 86400.0 AS per_s_last_day
    FROM outcome_report;

CREATE VIEW worker_report AS
    SELECT worker.node, worker.name, worker.uid, worker.user, worker.categories, worker.started_at,
           (SELECT count(*) FROM job WHERE job.state <> 'completed' AND job.state = 'claimed' AND job.place LIKE 'workers/' || worker.name || '/%') AS holds
    FROM worker WHERE worker.ended_at IS NULL
    ORDER BY worker.node, worker.pid;

-- The attempt that decided a completed job; one that lost its lease decides nothing.
CREATE VIEW job_report AS
    SELECT job.*, final.outcome, final.exit_status, final.signal, final.ended_at, final.worker AS final_worker
    FROM job LEFT JOIN attempt AS final ON job.state = 'completed' AND final.job_uid = job.uid AND final.is_final = 1
        AND NOT EXISTS (
            SELECT 1 FROM attempt AS later WHERE later.job_uid = final.job_uid AND later.is_final = 1
            AND (later.number, later.ended_at, later.worker_uid) > (final.number, final.ended_at, final.worker_uid));
