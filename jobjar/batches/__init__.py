"""Batches of described jobs: submit files, changes of batches, and actions on all jobs of a batch."""
