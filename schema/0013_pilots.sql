-- Pilots: workers that were submitted into a batch system. From the entries `pilot_queue` and `pilot`, so every ledger has the same.

CREATE TABLE pilot_queue (
    name TEXT PRIMARY KEY,
    changed_at REAL NOT NULL,             -- the latest entry stands
    system TEXT,                          -- slurm, pbs …
    plan TEXT,                            -- what is submitted, as JSON
    paused_at REAL,                       -- NULL: it is not paused
    paused_by TEXT,
    paused_why TEXT,
    failures INTEGER NOT NULL,            -- pilots that failed in a row
    said TEXT,                            -- what was said of the last of them
    removed_at REAL,
    is_gone INTEGER NOT NULL              -- removed, and its last pilot has ended
);

CREATE TABLE pilot (
    name TEXT PRIMARY KEY,                -- by which the batch system knows it
    revision INTEGER NOT NULL,            -- the highest stands
    queue TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,                  -- intended, waiting, running, ended
    intended_at REAL NOT NULL,
    since REAL NOT NULL,                  -- when it came into its state
    submitted_at REAL,
    started_at REAL,
    ended_at REAL,
    system_id TEXT,                       -- the batch system's own id of it
    word TEXT,                            -- the batch system's own word for its state
    reason TEXT,                          -- why it waits, in the batch system's words
    on_node TEXT,
    worker TEXT,
    worker_id TEXT,
    end_reason TEXT,
    message TEXT
);
CREATE INDEX pilot_open ON pilot (queue, number) WHERE state <> 'ended';
-- Whether a worker was ended by the machinery: it does not count as a crash of its job.
CREATE INDEX pilot_worker ON pilot (worker_id) WHERE worker_id IS NOT NULL;
