"""The worker: its loop, its directory, the background, its pulse, what it hears and says."""
