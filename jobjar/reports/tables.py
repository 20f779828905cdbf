"""Tables as text, in the formats that people know by name from tabulate. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobjar.errors import UsageError
from jobjar.text import printable


def check_format(name: str) -> str:
    """Return a table format's name, or raise UsageError."""
    import tabulate

    if name != "json" and name not in tabulate.tabulate_formats:
        raise UsageError(
            reason=f"there is no format {name!r}; use json or one of: {' '.join(tabulate.tabulate_formats)}"
        )
    return name


def format_table(rows: Sequence[Sequence[Any]], headers: Sequence[str], table_format: str) -> str:
    """A table as text. A tab only ever separates cells; a tab within a cell is shown as `\\x09`."""
    import tabulate

    rows = [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    return tabulate.tabulate(rows, headers, tablefmt=table_format, disable_numparse=True)
