-- What is asked of a jar of millions is kept and not counted: how many jobs are in which state, how many attempts ended when, and
-- what was seen when a large directory was looked through last. Counts are kept by triggers, so that whatever changes a row
-- keeps them: a fold, a reconciliation, a person.

-- Nothing in these two tables, nor in their triggers, can be refused: a statement that might be, in the midst of what a trigger
-- writes, has SQLite copy each page before it is written, which costs a fold half its time again. So they have no constraint;
-- a row is made where there is none, and then added to.

-- How many jobs are in a state, by category and kind; of those that wait by priority too (else 0). A row of none is not kept.
CREATE TABLE job_count (
    state TEXT,
    category TEXT,
    priority INTEGER,
    kind TEXT,
    jobs INTEGER
);
CREATE INDEX job_count_key ON job_count (state, category, priority, kind);
INSERT INTO job_count
    SELECT state, category, CASE state WHEN 'unclaimed' THEN priority ELSE 0 END AS of_priority, kind, count(*) FROM job
    GROUP BY state, category, of_priority, kind;
CREATE TRIGGER job_count_added AFTER INSERT ON job BEGIN
    INSERT INTO job_count
        SELECT new.state, new.category, CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END, new.kind, 0
        WHERE NOT EXISTS (SELECT 1 FROM job_count WHERE state = new.state AND category = new.category
            AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind);
    UPDATE job_count SET jobs = jobs + 1 WHERE state = new.state AND category = new.category
        AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind;
END;
CREATE TRIGGER job_count_changed AFTER UPDATE OF state, category, kind, priority ON job
WHEN new.state <> old.state OR new.category <> old.category OR new.priority <> old.priority OR new.kind <> old.kind BEGIN
    UPDATE job_count SET jobs = jobs - 1 WHERE state = old.state AND category = old.category
        AND priority = CASE old.state WHEN 'unclaimed' THEN old.priority ELSE 0 END AND kind = old.kind;
    INSERT INTO job_count
        SELECT new.state, new.category, CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END, new.kind, 0
        WHERE NOT EXISTS (SELECT 1 FROM job_count WHERE state = new.state AND category = new.category
            AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind);
    UPDATE job_count SET jobs = jobs + 1 WHERE state = new.state AND category = new.category
        AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind;
END;
CREATE TRIGGER job_count_removed AFTER DELETE ON job BEGIN
    UPDATE job_count SET jobs = jobs - 1 WHERE state = old.state AND category = old.category
        AND priority = CASE old.state WHEN 'unclaimed' THEN old.priority ELSE 0 END AND kind = old.kind;
END;
CREATE TRIGGER job_count_none AFTER UPDATE ON job_count WHEN new.jobs = 0 BEGIN
    DELETE FROM job_count
        WHERE state = new.state AND category = new.category AND priority = new.priority AND kind = new.kind;
END;

-- How many attempts ended in a minute (of the epoch), by outcome.
CREATE TABLE attempt_count (
    minute INTEGER,
    outcome TEXT,
    is_final INTEGER,
    attempts INTEGER
);
CREATE INDEX attempt_count_key ON attempt_count (minute, outcome, is_final);
INSERT INTO attempt_count
    SELECT CAST(ended_at / 60 AS INTEGER) AS minute, outcome, is_final, count(*) FROM attempt
    WHERE ended_at IS NOT NULL AND outcome IS NOT NULL GROUP BY minute, outcome, is_final;
CREATE TRIGGER attempt_count_added AFTER INSERT ON attempt WHEN new.ended_at IS NOT NULL AND new.outcome IS NOT NULL BEGIN
    INSERT INTO attempt_count SELECT CAST(new.ended_at / 60 AS INTEGER), new.outcome, new.is_final, 0
        WHERE NOT EXISTS (SELECT 1 FROM attempt_count WHERE minute = CAST(new.ended_at / 60 AS INTEGER)
            AND outcome = new.outcome AND is_final = new.is_final);
    UPDATE attempt_count SET attempts = attempts + 1 WHERE minute = CAST(new.ended_at / 60 AS INTEGER)
        AND outcome = new.outcome AND is_final = new.is_final;
END;
CREATE TRIGGER attempt_count_changed AFTER UPDATE OF ended_at, outcome, is_final ON attempt BEGIN
    UPDATE attempt_count SET attempts = attempts - 1 WHERE minute = CAST(old.ended_at / 60 AS INTEGER)
        AND outcome = old.outcome AND is_final = old.is_final;
    INSERT INTO attempt_count SELECT CAST(new.ended_at / 60 AS INTEGER), new.outcome, new.is_final, 0
        WHERE new.ended_at IS NOT NULL AND new.outcome IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM attempt_count WHERE minute = CAST(new.ended_at / 60 AS INTEGER)
            AND outcome = new.outcome AND is_final = new.is_final);
    UPDATE attempt_count SET attempts = attempts + 1 WHERE minute = CAST(new.ended_at / 60 AS INTEGER)
        AND outcome = new.outcome AND is_final = new.is_final;
END;
CREATE TRIGGER attempt_count_removed AFTER DELETE ON attempt BEGIN
    UPDATE attempt_count SET attempts = attempts - 1 WHERE minute = CAST(old.ended_at / 60 AS INTEGER)
        AND outcome = old.outcome AND is_final = old.is_final;
END;

-- A large directory of jobs (limbo, unclaimed, unclaimed/CATEGORY), as it was when it was last compared with the ledger; of a
-- small one nothing is kept. Of this ledger alone, as is the next table: no journal tells of either.
CREATE TABLE directory_look (
    place TEXT PRIMARY KEY,
    changed_ns INTEGER NOT NULL,          -- its own time then; 0: it may have been changed in that same moment
    jobs INTEGER NOT NULL,                -- that the ledger had there
    took_s REAL NOT NULL,
    compared_at REAL NOT NULL             -- by this node's clock, for people
) WITHOUT ROWID;
-- What lay there and was no job.
CREATE TABLE other_file (
    place TEXT PRIMARY KEY,
    reason TEXT NOT NULL
) WITHOUT ROWID;

-- In 0001 it held what is not completed, and only a query that said so itself could use it. Any that names one of these states
-- can use this one; completed and removed jobs cost it nothing.
DROP INDEX job_open;
CREATE INDEX job_open ON job (state, category, priority DESC, submitted_at, id)
    WHERE state = 'limbo' OR state = 'unclaimed' OR state = 'claimed';

-- Jobs that wait under a name that may not be their own: a hand's. Few, and one of its own name never gets into it.
CREATE INDEX job_renamed ON job (uid) WHERE (state = 'limbo' OR state = 'unclaimed') AND move_number > 0
    AND (instr(name, uid) = 0 OR name NOT GLOB '*.[0-9-]*');

DROP VIEW queue_report;
CREATE VIEW queue_report AS
    SELECT category, priority, sum(jobs) AS waiting, (
        SELECT job.submitted_at FROM job INDEXED BY job_open
        WHERE job.state = 'unclaimed' AND job.category = job_count.category AND job.priority = job_count.priority
            AND job.submitted_at IS NOT NULL ORDER BY job.submitted_at LIMIT 1) AS oldest_at
    FROM job_count WHERE state = 'unclaimed'
    GROUP BY category, priority
    ORDER BY category, priority DESC;

DROP VIEW state_report;
CREATE VIEW state_report AS
    SELECT state, sum(jobs) AS jobs FROM job_count GROUP BY state;

DROP VIEW oldest_waiting_report;
CREATE VIEW oldest_waiting_report AS
    SELECT job.uid, job.name, job.category, job.priority, job.submitted_at,
           max(0, (julianday('now') - 2440587.5) * 86400.0 - job.submitted_at) AS age_s
    FROM (SELECT DISTINCT category, priority FROM job_count WHERE state = 'unclaimed') AS queue
    CROSS JOIN job ON job.id = (
        SELECT oldest.id FROM job AS oldest INDEXED BY job_open
        WHERE oldest.state = 'unclaimed' AND oldest.category = queue.category AND oldest.priority = queue.priority
        ORDER BY oldest.submitted_at, oldest.id LIMIT 1)
    ORDER BY job.submitted_at LIMIT 1;

-- The minutes that an hour and a day cut in two are counted, the others summed.
CREATE VIEW ended_report AS
    WITH edge (hour, day) AS (
        SELECT (julianday('now') - 2440587.5) * 86400.0 - 3600, (julianday('now') - 2440587.5) * 86400.0 - 86400)
    SELECT is_final, outcome, sum(last_hour) AS last_hour, sum(last_day) AS last_day FROM (
        SELECT attempt_count.is_final, attempt_count.outcome,
               CASE WHEN minute > CAST(edge.hour / 60 AS INTEGER) THEN attempts ELSE 0 END AS last_hour, attempts AS last_day
            FROM edge CROSS JOIN attempt_count ON attempt_count.minute > CAST(edge.day / 60 AS INTEGER)
        UNION ALL
        SELECT is_final, outcome, 0, 1 FROM edge CROSS JOIN attempt INDEXED BY attempt_ended
            WHERE is_final = 1 AND ended_at > edge.day AND ended_at < 60 * (CAST(edge.day / 60 AS INTEGER) + 1)
        UNION ALL
        SELECT is_final, outcome, 0, 1 FROM edge CROSS JOIN attempt INDEXED BY attempt_undecided
            WHERE is_final = 0 AND ended_at IS NOT NULL AND ended_at > edge.day
            AND ended_at < 60 * (CAST(edge.day / 60 AS INTEGER) + 1)
        UNION ALL
        SELECT is_final, outcome, 1, 0 FROM edge CROSS JOIN attempt INDEXED BY attempt_ended
            WHERE is_final = 1 AND ended_at > edge.hour AND ended_at < 60 * (CAST(edge.hour / 60 AS INTEGER) + 1)
        UNION ALL
        SELECT is_final, outcome, 1, 0 FROM edge CROSS JOIN attempt INDEXED BY attempt_undecided
            WHERE is_final = 0 AND ended_at IS NOT NULL AND ended_at > edge.hour
            AND ended_at < 60 * (CAST(edge.hour / 60 AS INTEGER) + 1)
    ) GROUP BY is_final, outcome;
DROP VIEW outcome_report;
CREATE VIEW outcome_report AS
    SELECT outcome, last_hour, last_day FROM ended_report WHERE is_final = 1 ORDER BY outcome;
DROP VIEW attempt_report;
CREATE VIEW attempt_report AS
    SELECT outcome, last_hour, last_day FROM ended_report WHERE is_final = 0 ORDER BY outcome;
