"""`jobjar doctor`: what a node, or a pair of nodes, does to a jar. Each check yields a Finding.

Reads and measures. It makes files of its own under `$JJ_HOME/doctor/` and in the ledger home, and removes them. It touches no
job.
"""
