"""Files that a user may not use: which they are, whose they are, and what to do about it."""
