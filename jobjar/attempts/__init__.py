"""Claimed jobs and their attempts: what a worker knows of them, where they run, and which job it may claim next (candidates,
limits, throttles)."""
