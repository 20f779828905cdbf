-- Who said what is known of a job's submission: 0 is its submitter (a `submitted` entry), a higher number the move by which its
-- file was read, NULL nobody (a scan saw the file).
ALTER TABLE job ADD COLUMN found_number INTEGER DEFAULT 0;
-- By what a hand-made job's file is known after the job has completed (shared_disk/file_mark.py): a new file of its name is a new job.
ALTER TABLE job ADD COLUMN found_file TEXT;
UPDATE job SET found_number = NULL WHERE state <> 'completed' AND NOT EXISTS (
    SELECT 1 FROM move WHERE move.job_uid = job.uid AND move.number = 1 AND move.reason = 'submitted');
