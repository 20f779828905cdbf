"""`jobjar doctor`: what a node, or a pair of nodes, does to a jar; each thing looked at is a Finding.

Reads and measures. Files of its own are made under `$JJ_HOME/doctor/` and in the ledger home, and removed; jobs are not touched.
"""
