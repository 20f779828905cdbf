"""Claimed jobs and attempts to run them: where each runs, and which job a worker may take (candidates, limits, throttles)."""
