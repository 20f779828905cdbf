"""Fetch copies of input files: from paths, http(s) addresses, other hosts, and a node's cache."""
