"""SQLite's driver without peewee, for who has but a moment, and how its URIs write a path. Reads and writes nothing."""

from __future__ import annotations

import importlib
from typing import Any


def quick_driver() -> Any:
    """A driver. It need not be the one that peewee chooses, whose choice takes both to be loaded: so nobody keeps a connection of
    it open, whose end might take away the locks of another one's to the same file (sqlite.org/howtocorrupt.html, 2.2.1)."""
    try:
        return importlib.import_module("pysqlite3")
    except ImportError:
        return importlib.import_module("sqlite3")


def quote_path(path: str) -> str:
    """A path as SQLite's URIs write it."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
