"""Selecting jobs: one way to name them in every verb. Reads the ledger, and the directories for a job that somebody named."""
