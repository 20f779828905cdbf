"""Imported last by a process that forks others: all that a worker may need is imported too, and what exists by then is no
garbage. Where no collector looks at it, the children share its pages, and do not copy them."""

import gc

from jobjar.worker.preload import load_what_may_be_needed

load_what_may_be_needed()
gc.collect()
gc.freeze()
