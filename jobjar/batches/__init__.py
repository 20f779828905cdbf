"""Batches of described jobs: submit files, changes of batches, and what is done to all their jobs."""
