"""The view: pages over the ledger for a browser, and reports as one file. It reads, and never changes a job."""
