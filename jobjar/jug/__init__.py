"""Jug's contract: what described jobs are made of, from the submit file to the stored output. Nothing here moves a job."""
