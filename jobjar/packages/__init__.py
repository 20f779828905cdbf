"""Software packages: unpacked, installed once on the shared disk, and used by jobs."""
