-- Described jobs (Jug's cycle): what they belong to, the phases of their attempts, what was said of these, batches.

ALTER TABLE job ADD COLUMN kind TEXT NOT NULL DEFAULT '';   -- '': plain; 'described'
ALTER TABLE job ADD COLUMN batch TEXT;
ALTER TABLE job ADD COLUMN seed INTEGER;
CREATE INDEX job_batch ON job (batch, state) WHERE batch IS NOT NULL;

-- A phase of a described job's attempt: stage_in, run, poll, stage_out, store. One that has not ended is under way, or was
-- cut short with its attempt.
CREATE TABLE phase (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    name TEXT NOT NULL,
    began_at REAL NOT NULL,
    ended_at REAL,
    exit_status INTEGER,                  -- of its command, where it had one
    message TEXT,                         -- why it failed
    PRIMARY KEY (job_uid, attempt, worker_uid, name)
) WITHOUT ROWID;

-- What was odd about an attempt and cost it nothing: a line of a variables file that does not parse, say.
CREATE TABLE warning (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    number INTEGER NOT NULL,              -- from 1
    text TEXT NOT NULL,
    PRIMARY KEY (job_uid, attempt, worker_uid, number)
) WITHOUT ROWID;

ALTER TABLE batch ADD COLUMN changed_at REAL NOT NULL DEFAULT 0;    -- of the entry that this row tells of
ALTER TABLE batch ADD COLUMN is_aborted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN jobs INTEGER;                          -- how many it has, as its submitter says
ALTER TABLE batch ADD COLUMN notes TEXT;

-- Jobs of a batch that failed fast, one after the other: none of it is claimed before `until`.
CREATE TABLE throttle (
    batch TEXT PRIMARY KEY,
    told_at REAL NOT NULL,                -- of the entry that this row tells of
    until REAL NOT NULL,                  -- by the disk's clock; 0: not throttled any more
    failures INTEGER NOT NULL
) WITHOUT ROWID;
