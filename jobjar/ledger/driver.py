"""SQLite's driver without peewee, for short tasks; what its connections can do; paths as its URIs write them.

Reads and writes nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement came to: its rows, or how many it changed. A row's columns are known to its query alone."""

    @property
    def rowcount(self) -> int: ...

    @property
    def description(self) -> Sequence[Sequence[Any]]: ...

    def __iter__(self) -> Iterator[Any]: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A connection of a driver, pysqlite3's or Python's own, as far as it is used here."""

    @property
    def in_transaction(self) -> bool: ...

    @property
    def IntegrityError(self) -> type[Exception]: ...  # noqa: N802

    @property
    def InterfaceError(self) -> type[Exception]: ...  # noqa: N802

    @property
    def ProgrammingError(self) -> type[Exception]: ...  # noqa: N802

    @property
    def DataError(self) -> type[Exception]: ...  # noqa: N802

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ..., /) -> Rows: ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows: ...

    def set_progress_handler(self, handler: Callable[[], int | None] | None, instructions: int, /) -> None: ...

    def set_trace_callback(self, callback: Callable[[str], object] | None, /) -> None: ...

    def create_function(
        self, name: str, arguments: int, function: Callable[..., Any], /, *, deterministic: bool = ...
    ) -> None: ...

    def close(self) -> None: ...


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
