"""The journals: append to them, read them, and the fields of each kind of entry."""
