"""Load at its start what a worker may need later: its software may be moved or upgraded while it runs.

The modules that fetch by http(s) (fsspec, aiohttp) are not loaded here: they are large, and few jobs need them. If they cannot
be loaded later, the job goes back and the worker leaves (described/overlap.py). Reads the package; writes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys

import jobjar.attempts
import jobjar.described
import jobjar.fetching
import jobjar.ledger
import jobjar.packages
import jobjar.publishing
import jobjar.stages
from jobjar.ledger.migrate import keep_migrations

# Whole rooms. Then single modules: those of other rooms that a worker imports late, and what all these and Python itself import
# late.
_ROOMS = (
    *(jobjar.attempts, jobjar.described, jobjar.fetching, jobjar.ledger),
    *(jobjar.packages, jobjar.publishing, jobjar.stages),
)
_MODULES = (
    *(
        "jobjar.described.overlap",
        "jobjar.recovery.recover",
        "jobjar.job_file.description",
        "portalocker",
        "glob",
        "select",
        "ctypes",
        "pwd",
        "resource",
    ),
    *(() if sys.platform == "linux" else ("psutil",)),
    *("gzip", "bz2", "lzma", "zipfile", "sqlite3", "queue", "datetime", "traceback", "tempfile", "textwrap"),
    *("encodings.ascii", "encodings.cp437", "encodings.idna", "encodings.latin_1", "encodings.utf_8_sig"),
)


def load_what_may_be_needed() -> None:
    """Import these modules, and read the schema files. A module that is missing now raises its error where it is needed."""
    rooms = (f"{room.__name__}.{module.name}" for room in _ROOMS for module in pkgutil.iter_modules(room.__path__))
    for name in (*rooms, *_MODULES):
        with contextlib.suppress(ImportError):  # a Python without lzma, say
            importlib.import_module(name)
    keep_migrations()
