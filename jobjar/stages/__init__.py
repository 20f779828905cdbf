"""The steps of a plain job, a module each: submit, claim, run, complete. No step imports another."""
