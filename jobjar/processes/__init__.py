"""Processes of this node: sessions of jobs, and the events that wake a sleeping worker."""
