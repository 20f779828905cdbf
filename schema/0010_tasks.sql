-- Arrays: batches of tasks, which run in chunks. A chunk is a job; its tasks are rows here and no jobs. Times of tasks are integers,
-- for their size: milliseconds of the epoch, microseconds of run and CPU time.

CREATE TABLE array (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,             -- the name of its batch
    first INTEGER,                        -- NULL: the entry of its batch is not read yet
    last INTEGER,
    step INTEGER,
    tasks INTEGER,
    succeeded INTEGER NOT NULL DEFAULT 0, -- how many tasks have ended for good so; the rest of those that ended is `failed`
    failed INTEGER NOT NULL DEFAULT 0,
    first_ended_ms INTEGER,
    last_ended_ms INTEGER
);

-- Tasks that were opened again, to run once more although they had ended: ends of an earlier life stand no longer.
CREATE TABLE array_life (
    array INTEGER NOT NULL,
    life INTEGER NOT NULL,                -- 1 after the first time
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (array, life, first, last)
) WITHOUT ROWID;

-- An attempt of a chunk, in which tasks ended.
CREATE TABLE chunk_run (
    id INTEGER PRIMARY KEY,
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    worker TEXT NOT NULL,
    output_file TEXT,                     -- in the worker's output directory; NULL: no task wrote anything yet
    UNIQUE (job_uid, attempt, worker_uid)
);

-- The end of each task that has ended for good. Of several ends the first of the latest life stands.
CREATE TABLE task (
    array INTEGER NOT NULL,
    number INTEGER NOT NULL,              -- its index
    life INTEGER NOT NULL,
    outcome INTEGER NOT NULL,             -- arrays/task_ends.py has their names
    status INTEGER,                       -- its exit status, or minus its signal; NULL: it was not started
    ended_ms INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    user_us INTEGER NOT NULL,
    system_us INTEGER NOT NULL,
    max_rss_kib INTEGER NOT NULL,
    run INTEGER NOT NULL,                 -- chunk_run.id
    offset INTEGER NOT NULL,              -- of its output in the file of the run
    length INTEGER NOT NULL,
    message TEXT,
    PRIMARY KEY (array, number)
) WITHOUT ROWID;
CREATE INDEX task_failed ON task (array, number) WHERE outcome <> 0;

-- Ends that do not stand: of a task that is tried again, or that had ended before.
CREATE TABLE task_attempt (
    array INTEGER NOT NULL,
    number INTEGER NOT NULL,
    life INTEGER NOT NULL,
    run INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    status INTEGER,
    wall_us INTEGER NOT NULL,
    user_us INTEGER NOT NULL,
    system_us INTEGER NOT NULL,
    max_rss_kib INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    message TEXT,
    PRIMARY KEY (array, number, run, ended_ms)
) WITHOUT ROWID;

-- Chunks that have not ended. No other job gets into it.
CREATE INDEX job_chunk ON job (batch) WHERE kind = 'chunk' AND (state = 'limbo' OR state = 'unclaimed' OR state = 'claimed');
