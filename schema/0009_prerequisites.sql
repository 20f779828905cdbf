-- What a job waits for before it may be claimed. From its `submitted` entry, so every ledger has the same rows.
CREATE TABLE prerequisite (
    job_uid TEXT NOT NULL,                -- the dependent
    what TEXT NOT NULL,                   -- of what `target` is the name: job (its id), batch
    target TEXT NOT NULL,
    kind TEXT NOT NULL,                   -- after, after_any, after_failed: how that has to end
    PRIMARY KEY (job_uid, what, target, kind)
) WITHOUT ROWID;
CREATE INDEX prerequisite_target ON prerequisite (target, what);

-- Which dependents have to be looked at: those of a job or of a batch that ended, or a dependent itself. This ledger's own: who
-- has looked takes the row away (steering/dependents.py).
CREATE TABLE dependents_due (
    what TEXT NOT NULL,                   -- job, batch, dependent
    target TEXT NOT NULL,
    PRIMARY KEY (what, target)
) WITHOUT ROWID;

-- A batch that was aborted, or has fewer jobs now, may have ended with that.
CREATE TRIGGER batch_dependents_due AFTER UPDATE ON batch
WHEN EXISTS (SELECT 1 FROM prerequisite WHERE target = NEW.name AND what = 'batch')
BEGIN
    INSERT OR IGNORE INTO dependents_due VALUES ('batch', NEW.name);
END;

-- Jobs in limbo and why, but for dependents: these have a view of their own, and may be many.
DROP VIEW held_report;
CREATE VIEW held_report AS
    SELECT uid, name, place, held_reason FROM job
    WHERE state <> 'completed' AND state = 'limbo' AND (held_reason IS NULL OR held_reason NOT GLOB 'dependent on *');
CREATE VIEW dependent_report AS
    SELECT uid, name, place, category, held_reason FROM job
    WHERE state <> 'completed' AND state = 'limbo' AND held_reason GLOB 'dependent on *';

-- As in 0002, with the phase `dependent`.
DROP VIEW open_job_report;
CREATE VIEW open_job_report AS
    SELECT job.uid, job.name, job.batch, job.seed, job.category, job.state, job.place, job.moved_at, job.move_number,
        CASE job.state
            WHEN 'limbo' THEN CASE WHEN job.held_reason IS NULL THEN 'limbo'
                WHEN job.held_reason GLOB 'dependent on *' THEN 'dependent' ELSE 'held' END
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
