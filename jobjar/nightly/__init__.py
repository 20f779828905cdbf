"""The nightly job, and its steps other than recovery: the archive, retention, rotation of journals."""
