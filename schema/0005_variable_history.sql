-- Which of the variable's values in the attempt it is, from 1: so many it had. Entries of before do not say it.
ALTER TABLE monitored_variable ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 1;

-- The values that a monitored variable had in an attempt; the latest is in monitored_variable too. At most 1,000 of a variable
-- are kept (ledger/apply_others.py), the first and the latest among them.
CREATE TABLE variable_history (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    told_at REAL NOT NULL,                -- when its worker read it, by the disk's clock
    value TEXT NOT NULL,
    number REAL,                          -- the value, where it is a number
    PRIMARY KEY (job_uid, attempt, worker_uid, name, ordinal)
) WITHOUT ROWID;
INSERT INTO variable_history (job_uid, attempt, worker_uid, name, ordinal, told_at, value, number)
    SELECT job_uid, attempt, worker_uid, name, ordinal, told_at, value, number FROM monitored_variable;
