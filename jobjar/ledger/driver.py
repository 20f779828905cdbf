"""SQLite's driver without peewee, for short tasks, and paths as its URIs write them. Reads and writes nothing."""

from __future__ import annotations

import importlib
from typing import Any


def quick_driver() -> Any:
    """A driver. It may be another than peewee's, whose choice needs both to be loaded. So keep no connection of it
    open: closing that could release the locks of another connection to the same file (sqlite.org/howtocorrupt.html,
    2.2.1)."""
    try:
        return importlib.import_module("pysqlite3")
    except ImportError:
        return importlib.import_module("sqlite3")


def quote_path(path: str) -> str:
    """A path as SQLite's URIs write it."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
