"""Which files a user may not use, whose they are, and what to do about it."""
