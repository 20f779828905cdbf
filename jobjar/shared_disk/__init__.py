"""Access to the shared disk: durable writes, moves that never overwrite, removal, patience. Knows nothing of jobs' stages."""
