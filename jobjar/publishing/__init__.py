"""The results of a described job: its outputs, its variables, and their storage."""
