-- What is asked of a jar of millions is kept and not counted: how many jobs are in which state, how many attempts ended when, and
-- what was seen when a large directory was looked through last (ledger/counts.py).

-- How far things are counted: jobs up to this row, attempts that ended before this minute (of the epoch). What came later is counted
-- when it is asked for, and there is little of it: a trigger at each new row would cost a fold a third of its time.
CREATE TABLE counted (
    job_id INTEGER,
    minute INTEGER
);
INSERT INTO counted SELECT (SELECT coalesce(max(id), 0) FROM job), 0;

-- How many of the jobs that are counted are in a state, by category and kind; of those that wait by priority too (else 0). Neither
-- this table nor its triggers have a constraint: for what may be refused in the midst of a trigger, SQLite copies pages first.
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
CREATE TRIGGER job_count_changed AFTER UPDATE OF state, category, kind, priority ON job
WHEN (new.state <> old.state OR new.category <> old.category OR new.priority <> old.priority OR new.kind <> old.kind)
    AND old.id <= (SELECT job_id FROM counted) BEGIN
    UPDATE job_count SET jobs = jobs - 1 WHERE state = old.state AND category = old.category
        AND priority = CASE old.state WHEN 'unclaimed' THEN old.priority ELSE 0 END AND kind = old.kind;
    INSERT INTO job_count
        SELECT new.state, new.category, CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END, new.kind, 0
        WHERE NOT EXISTS (SELECT 1 FROM job_count WHERE state = new.state AND category = new.category
            AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind);
    UPDATE job_count SET jobs = jobs + 1 WHERE state = new.state AND category = new.category
        AND priority = CASE new.state WHEN 'unclaimed' THEN new.priority ELSE 0 END AND kind = new.kind;
END;
-- SQLite gives the number of the last row again once that is deleted.
CREATE TRIGGER job_count_removed AFTER DELETE ON job WHEN old.id <= (SELECT job_id FROM counted) BEGIN
    UPDATE job_count SET jobs = jobs - 1 WHERE state = old.state AND category = old.category
        AND priority = CASE old.state WHEN 'unclaimed' THEN old.priority ELSE 0 END AND kind = old.kind;
    UPDATE counted SET job_id = coalesce((SELECT max(id) FROM job WHERE id < old.id), 0) WHERE job_id = old.id;
END;
CREATE TRIGGER job_count_none AFTER UPDATE ON job_count WHEN new.jobs = 0 BEGIN
    DELETE FROM job_count
        WHERE state = new.state AND category = new.category AND priority = new.priority AND kind = new.kind;
END;
-- The same of all jobs.
CREATE VIEW job_count_report AS
    SELECT state, category, priority, kind, sum(jobs) AS jobs FROM (
        SELECT state, category, priority, kind, jobs FROM job_count
        UNION ALL
        SELECT state, category, CASE state WHEN 'unclaimed' THEN priority ELSE 0 END, kind, 1 FROM job
            WHERE id > (SELECT job_id FROM counted))
    GROUP BY state, category, priority, kind;

-- How many attempts ended in a minute of the last day, by outcome, before the minute up to which they are counted.
CREATE TABLE attempt_count (
    minute INTEGER,
    outcome TEXT,
    is_final INTEGER,
    attempts INTEGER
);
CREATE INDEX attempt_count_minute ON attempt_count (minute);

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
        WHERE job.state = 'unclaimed' AND job.category = queue.category AND job.priority = queue.priority
            AND job.submitted_at IS NOT NULL ORDER BY job.submitted_at LIMIT 1) AS oldest_at
    FROM job_count_report AS queue WHERE state = 'unclaimed'
    GROUP BY category, priority
    ORDER BY category, priority DESC;

DROP VIEW state_report;
CREATE VIEW state_report AS
    SELECT state, sum(jobs) AS jobs FROM job_count_report GROUP BY state;

DROP VIEW oldest_waiting_report;
CREATE VIEW oldest_waiting_report AS
    SELECT job.uid, job.name, job.category, job.priority, job.submitted_at,
           max(0, (julianday('now') - 2440587.5) * 86400.0 - job.submitted_at) AS age_s
    FROM (SELECT DISTINCT category, priority FROM job_count_report WHERE state = 'unclaimed') AS queue
    CROSS JOIN job ON job.id = (
        SELECT oldest.id FROM job AS oldest INDEXED BY job_open
        WHERE oldest.state = 'unclaimed' AND oldest.category = queue.category AND oldest.priority = queue.priority
        ORDER BY oldest.submitted_at, oldest.id LIMIT 1)
    ORDER BY job.submitted_at LIMIT 1;

-- Whole minutes are summed, as far as they are counted; the minutes that an hour and a day cut in two, and what is not counted
-- yet, are read in the indexes of ended attempts.
CREATE VIEW ended_report AS
    WITH edge (hour, day, counted) AS (
        SELECT (julianday('now') - 2440587.5) * 86400.0 - 3600, (julianday('now') - 2440587.5) * 86400.0 - 86400,
               60 * (SELECT minute FROM counted)),
    window (since, until, last_hour, last_day) AS (
        SELECT day, min(60 * (CAST(day / 60 AS INTEGER) + 1), counted), 0, 1 FROM edge
        UNION ALL SELECT hour, min(60 * (CAST(hour / 60 AS INTEGER) + 1), counted), 1, 0 FROM edge
        UNION ALL SELECT max(day, counted), 9e99, 0, 1 FROM edge
        UNION ALL SELECT max(hour, counted), 9e99, 1, 0 FROM edge)
    SELECT is_final, outcome, sum(last_hour) AS last_hour, sum(last_day) AS last_day FROM (
        SELECT is_final, outcome, CASE WHEN minute > CAST(edge.hour / 60 AS INTEGER) THEN attempts ELSE 0 END AS last_hour,
               attempts AS last_day
            FROM edge CROSS JOIN attempt_count ON attempt_count.minute > CAST(edge.day / 60 AS INTEGER)
        UNION ALL
        SELECT is_final, outcome, window.last_hour, window.last_day
            FROM window CROSS JOIN attempt INDEXED BY attempt_ended
            WHERE is_final = 1 AND ended_at >= window.since AND ended_at < window.until
        UNION ALL
        SELECT is_final, outcome, window.last_hour, window.last_day
            FROM window CROSS JOIN attempt INDEXED BY attempt_undecided
            WHERE is_final = 0 AND ended_at IS NOT NULL AND ended_at >= window.since AND ended_at < window.until
    ) GROUP BY is_final, outcome;
DROP VIEW outcome_report;
CREATE VIEW outcome_report AS
    SELECT outcome, last_hour, last_day FROM ended_report WHERE is_final = 1 ORDER BY outcome;
DROP VIEW attempt_report;
CREATE VIEW attempt_report AS
    SELECT outcome, last_hour, last_day FROM ended_report WHERE is_final = 0 ORDER BY outcome;
