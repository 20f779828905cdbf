"""Processes of this node: who is alive, sessions of jobs, what wakes a sleeper."""
