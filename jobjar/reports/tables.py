"""Tables as text, in the formats that people know by name from tabulate. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobjar.errors import UsageError
from jobjar.text import printable

# Colours the text of a cell.
Paint = Callable[[str], str]


def check_format(name: str) -> str:
    """Return a table format's name, or raise UsageError."""
    if name == "json":
        return name
    import tabulate

    if name not in tabulate.tabulate_formats:
        raise UsageError(
            reason=f"there is no format {name!r}; use json or one of: {' '.join(tabulate.tabulate_formats)}"
        )
    return name


def format_table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], table_format: str, paint: Paint | None = None
) -> str:
    """A table as text. A tab only ever separates cells; a tab within a cell is shown as `\\x09`. `paint` gets each cell that is
    text, and may colour it."""
    import tabulate

    rows = [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    if paint is not None:
        rows = [[paint(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    return tabulate.tabulate(rows, headers, tablefmt=table_format, disable_numparse=True)
