"""What a worker may come to need, loaded when it starts: its software may be moved away or upgraded while it runs.

Left out is what fetches by http(s) (fsspec, aiohttp), which is large and which few jobs need. Where that cannot be loaded any
more, its job goes back, and the worker leaves (described/juggle.py). Reads the package; writes nothing.
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

# Whole rooms; other rooms' modules that a worker imports late; what these, and Python itself, import late in turn.
_ROOMS = (
    *(jobjar.attempts, jobjar.described, jobjar.fetching, jobjar.ledger),
    *(jobjar.packages, jobjar.publishing, jobjar.stages),
)
_MODULES = (
    *(
        "jobjar.described.juggle",
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
    *("gzip", "bz2", "lzma", "zipfile", "sqlite3", "queue", "traceback", "tempfile", "textwrap"),
    *("encodings.ascii", "encodings.cp437", "encodings.idna", "encodings.latin_1", "encodings.utf_8_sig"),
)


def load_what_may_be_needed() -> None:
    """Import it all, and read the files that belong to it. What is not there at the start is missed where it is needed."""
    rooms = (f"{room.__name__}.{module.name}" for room in _ROOMS for module in pkgutil.iter_modules(room.__path__))
    for name in (*rooms, *_MODULES):
        with contextlib.suppress(ImportError):  # a Python without lzma, say
            importlib.import_module(name)
    keep_migrations()
