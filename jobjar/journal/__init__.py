"""The journals: append, read, and what each kind of entry says."""
