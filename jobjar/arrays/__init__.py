"""Arrays: one script, one task per index or entry, run in chunks. A chunk is a job; its worker runs its tasks one by one."""
