-- What a job asks for (cores, memory, GPUs, named resources), as one short text (job_file/request.py). "": nothing, as most jobs.
ALTER TABLE job ADD COLUMN request TEXT NOT NULL DEFAULT '';

-- A worker that is not large enough for each class of jobs that wait, or has not enough left, asks for the first ones of each class
-- that fits. The others still go by job_open.
CREATE INDEX job_waiting ON job (category, request, priority DESC, submitted_at, id) WHERE state = 'unclaimed';
