"""What the nightly job does beside recovery: the archive, retention, rotation of journals."""
