"""A described job's way: staged in, run, polled, staged out, stored; several at once."""
