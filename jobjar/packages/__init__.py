"""Software packages for jobs: unpacked and installed once on the shared disk."""
