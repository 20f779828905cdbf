"""Copies of files from where a description says they are: paths, http(s) addresses, other hosts, a node's cache."""
