"""Steering: what people do with the jobs that they select. Each verb moves files by renames, and journals that."""
