"""Looking: the status, batches, single jobs, stored files, waiting, and the check of the promise. Moves nothing."""
