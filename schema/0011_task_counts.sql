-- How many tasks have ended how, kept with the ends that stand (0010): nobody counts a million rows to say so.

CREATE TABLE task_outcome (
    array INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    status INTEGER NOT NULL,              -- as in task; -1000: it was not started
    tasks INTEGER NOT NULL,
    PRIMARY KEY (array, outcome, status)
) WITHOUT ROWID;
INSERT INTO task_outcome SELECT array, outcome, coalesce(status, -1000), count(*) FROM task GROUP BY 1, 2, 3;

-- By the minute of the epoch in which they ended, for the rate of the last hour and day.
CREATE TABLE task_minute (
    minute INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    PRIMARY KEY (minute, outcome)
) WITHOUT ROWID;
INSERT INTO task_minute SELECT ended_ms / 60000, outcome, count(*) FROM task GROUP BY 1, 2;
