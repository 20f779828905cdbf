-- What a job was given beside its retries and its time limit, as a JSON object: directory, arguments, variables, output files, tags
-- (job_file/given.py). NULL: nothing, as for most jobs.
ALTER TABLE job ADD COLUMN given TEXT;

-- The files outside of the jar to which an attempt wrote its output, because its job named them.
CREATE TABLE attempt_file (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    stream TEXT NOT NULL,                 -- output or error
    path TEXT NOT NULL,
    PRIMARY KEY (job_uid, attempt, worker_uid, stream)
) WITHOUT ROWID;
