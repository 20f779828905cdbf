-- Described jobs (Jug's cycle): what they belong to, the phases of their attempts, what was said of these, batches.

ALTER TABLE job ADD COLUMN kind TEXT NOT NULL DEFAULT '';   -- '': plain; 'described'
ALTER TABLE job ADD COLUMN batch TEXT;
ALTER TABLE job ADD COLUMN seed INTEGER;
CREATE INDEX job_batch ON job (batch, state, moved_at) WHERE batch IS NOT NULL;
-- Never changes once a job is there. A batch is gone through in the order of its jobs' ids, which is that of the tables of
-- attempts: a million of them are read one beside the other, and not each from another page.
CREATE INDEX job_of_batch ON job (batch, uid) WHERE batch IS NOT NULL;
-- What a jar without described jobs has to say of them costs it nothing.
CREATE INDEX job_described ON job (state, category, batch) WHERE kind = 'described' AND state <> 'completed';
-- Few, and an attempt that succeeds never gets into it.
CREATE INDEX attempt_failed ON attempt (job_uid, is_final, outcome) WHERE outcome IN ('failed', 'timed_out', 'killed', 'crashed');

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
-- What completed up to then (the disk's time) and did not succeed was submitted again, as new jobs; 0: nothing was.
ALTER TABLE batch ADD COLUMN restarted_until REAL NOT NULL DEFAULT 0;

CREATE INDEX batch_aborted ON batch (name) WHERE is_aborted = 1;    -- asked for whenever candidates are

-- Jobs of a batch that failed fast, one after the other: none of it is claimed before `until`.
CREATE TABLE throttle (
    batch TEXT PRIMARY KEY,
    told_at REAL NOT NULL,                -- of the entry that this row tells of
    until REAL NOT NULL,                  -- by the disk's clock; 0: not throttled any more
    failures INTEGER NOT NULL
) WITHOUT ROWID;

-- As in 0001, but kept beside the other rows of its attempt, and with what decides between two values. Nothing wrote either
-- table before; but 0001 was released (0.1.0), so they are made anew here and not changed there.
DROP TABLE monitored_variable;
CREATE TABLE monitored_variable (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    number REAL,                          -- the value, where it is a number
    told_at REAL NOT NULL DEFAULT 0,      -- of the entry: of two values the later one stands
    PRIMARY KEY (job_uid, attempt, worker_uid, name)
) WITHOUT ROWID;

DROP TABLE stored_file;
CREATE TABLE stored_file (
    job_uid TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker_uid TEXT NOT NULL,
    source_name TEXT NOT NULL,
    storage_name TEXT,
    storage_hfn TEXT,
    storage_url TEXT,
    storage_size INTEGER,
    storage_md5 TEXT,
    PRIMARY KEY (job_uid, attempt, worker_uid, source_name)
) WITHOUT ROWID;

-- Described jobs that have not ended, and the phase of each: of the attempt that a worker makes now, the phase that began
-- last and has not ended. `claimed`: a worker holds the job, which is between two phases.
CREATE VIEW open_job_report AS
    SELECT job.uid, job.name, job.batch, job.seed, job.category, job.state, job.place, job.moved_at, job.move_number,
        CASE job.state
            WHEN 'limbo' THEN CASE WHEN job.held_reason IS NULL THEN 'limbo' ELSE 'held' END
            WHEN 'unclaimed' THEN CASE WHEN job.category GLOB 'STORAGE-*' THEN 'waiting_for_storage' ELSE 'waiting' END
            ELSE coalesce((
                SELECT phase.name FROM attempt CROSS JOIN phase
                    ON phase.job_uid = attempt.job_uid AND phase.attempt = attempt.number AND phase.worker_uid = attempt.worker_uid
                WHERE attempt.job_uid = job.uid AND attempt.ended_at IS NULL AND phase.ended_at IS NULL
                    AND attempt.number = (SELECT max(newest.number) FROM attempt AS newest WHERE newest.job_uid = job.uid)
                ORDER BY phase.began_at DESC, phase.name LIMIT 1), 'claimed')
        END AS phase
    FROM job INDEXED BY job_described
    WHERE job.kind = 'described' AND job.state <> 'completed' AND job.state IN ('limbo', 'unclaimed', 'claimed');

-- How the jobs of batches ended: of each the attempt that decided it. A job that is open again, and one whose file was
-- removed since, are among them.
CREATE VIEW batch_outcome_report AS
    SELECT job.batch, attempt.outcome, count(*) AS jobs
    FROM job INDEXED BY job_of_batch CROSS JOIN attempt ON attempt.job_uid = job.uid
    WHERE job.batch IS NOT NULL AND attempt.is_final = 1 AND NOT EXISTS (
        SELECT 1 FROM attempt AS later WHERE later.job_uid = attempt.job_uid AND later.is_final = 1
        AND (later.number, later.ended_at, later.worker_uid) > (attempt.number, attempt.ended_at, attempt.worker_uid))
    GROUP BY job.batch, attempt.outcome;

-- Jobs of batches in whose place others were submitted, by how they ended: they do not count any more. When a job completed, the
-- move there tells; that to the archive is a later one.
CREATE VIEW batch_restarted_report AS
    SELECT batch.name AS batch, coalesce(attempt.outcome, 'unknown') AS outcome, count(*) AS jobs
    FROM batch CROSS JOIN job AS named INDEXED BY job_of_batch ON named.batch = batch.name
    LEFT JOIN attempt ON attempt.job_uid = named.uid AND attempt.is_final = 1 AND NOT EXISTS (
        SELECT 1 FROM attempt AS later WHERE later.job_uid = attempt.job_uid AND later.is_final = 1
        AND (later.number, later.ended_at, later.worker_uid) > (attempt.number, attempt.ended_at, attempt.worker_uid))
    CROSS JOIN job ON job.uid = named.uid
    WHERE batch.restarted_until > 0 AND named.batch IS NOT NULL AND attempt.outcome IS NOT 'succeeded'
        AND (job.state = 'completed' OR (job.state = 'removed' AND attempt.outcome IS NOT NULL)) AND batch.restarted_until >=
            CASE WHEN job.place GLOB 'completed/*' THEN job.moved_at ELSE coalesce((
                SELECT max(move.moved_at) FROM move WHERE move.job_uid = job.uid AND move.destination GLOB 'completed/*'),
                job.moved_at) END
    GROUP BY batch.name, attempt.outcome;

-- What the jobs of batches have done by their own account (the monitored variable `work_done`): of each the newest attempt that
-- says so and succeeded, or that would have and whose outputs are still to be stored. One that was repeated does not count.
CREATE VIEW work_done_report AS
    SELECT job.batch, job.uid AS job_uid, attempt.number AS attempt, variable.value, variable.number
    FROM job INDEXED BY job_of_batch
    CROSS JOIN attempt ON attempt.job_uid = job.uid
    CROSS JOIN monitored_variable AS variable ON variable.job_uid = attempt.job_uid AND variable.attempt = attempt.number
        AND variable.worker_uid = attempt.worker_uid AND variable.name = 'work_done'
    WHERE job.batch IS NOT NULL
        AND (attempt.outcome = 'succeeded' OR (attempt.outcome = 'published' AND attempt.exit_status = 0))
        AND NOT EXISTS (
            SELECT 1 FROM attempt AS later WHERE later.job_uid = attempt.job_uid AND later.number >= attempt.number
            AND ((later.is_final = 1 AND later.outcome <> 'succeeded')
                OR ((later.number, later.worker_uid) > (attempt.number, attempt.worker_uid)
                    AND (later.outcome = 'succeeded' OR (later.outcome = 'published' AND later.exit_status = 0))
                    AND EXISTS (
                        SELECT 1 FROM monitored_variable AS newer WHERE newer.job_uid = later.job_uid
                        AND newer.attempt = later.number AND newer.worker_uid = later.worker_uid AND newer.name = 'work_done'))));

-- The same of attempts that are under way.
CREATE VIEW work_under_way_report AS
    SELECT job.batch, job.uid AS job_uid, attempt.number AS attempt, variable.value, variable.number
    FROM job
    CROSS JOIN attempt ON attempt.job_uid = job.uid
    CROSS JOIN monitored_variable AS variable ON variable.job_uid = attempt.job_uid AND variable.attempt = attempt.number
        AND variable.worker_uid = attempt.worker_uid AND variable.name = 'work_done'
    WHERE job.batch IS NOT NULL AND job.state <> 'completed' AND job.state = 'claimed' AND attempt.ended_at IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM attempt AS later WHERE later.job_uid = attempt.job_uid
            AND (later.number, later.worker_uid) > (attempt.number, attempt.worker_uid));

-- Files of batches that were stored; of one that several attempts stored the newest counts.
CREATE VIEW batch_storage_report AS
    SELECT job.batch, count(*) AS files, coalesce(sum(stored_file.storage_size), 0) AS bytes
    FROM job INDEXED BY job_of_batch CROSS JOIN stored_file ON stored_file.job_uid = job.uid
    WHERE job.batch IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM stored_file AS later
        WHERE later.job_uid = stored_file.job_uid AND later.source_name = stored_file.source_name
        AND (later.attempt, later.worker_uid) > (stored_file.attempt, stored_file.worker_uid))
    GROUP BY job.batch;

-- Attempts of batches' jobs that failed, whether they were repeated or not.
CREATE VIEW batch_failure_report AS
    SELECT job.batch, count(*) AS failures
    FROM attempt INDEXED BY attempt_failed CROSS JOIN job ON job.uid = attempt.job_uid
    WHERE attempt.outcome IN ('failed', 'timed_out', 'killed', 'crashed') AND job.batch IS NOT NULL
    GROUP BY job.batch;

-- Which record of a file is its job's latest, and whose a name is.
CREATE INDEX stored_file_source ON stored_file (source_name, job_uid, attempt, worker_uid);
CREATE INDEX stored_file_storage ON stored_file (storage_name) WHERE storage_name IS NOT NULL;
