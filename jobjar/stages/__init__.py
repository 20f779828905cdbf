"""One step of a job's way each, in order: submit, claim, run, complete. None imports another."""
