-- Jobs that a person moved to completed/. No attempt decided them, so they are not among those that the index of ended attempts lists
-- in order. Few; the moves of programs never get into it.
CREATE INDEX move_to_completed_by_hand ON move (job_uid) WHERE reason = 'found' AND destination GLOB 'completed/*';
