"""Reports: the status, batches, single jobs, stored files, waiting, and the check of the promise. They move nothing."""
