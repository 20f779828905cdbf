"""The worker: its loop, its directory, the background, its heartbeat, its orders and its log."""
