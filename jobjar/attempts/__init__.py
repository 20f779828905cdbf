"""What a claimed job and an attempt to run it are, where it runs, and which job may be taken: candidates, limits, throttles."""
