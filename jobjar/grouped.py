"""Group lines for people. There may be thousands of one kind; one line with a count can replace them.

Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Line(str):
    """A line for people. `kind` describes several of its kind, in words that continue a number: "jobs are …"."""

    kind: str

    def __new__(cls, text: str, kind: str) -> Line:
        line = super().__new__(cls, text)
        line.kind = kind
        return line


def summarize(lines: Iterable[str]) -> list[str]:
    """Replace several lines of one kind by one line with their number and the first of them. Single lines stay."""
    kinds: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        kinds.setdefault(line.kind if isinstance(line, Line) else f"\0{number}", []).append(line)
    return [
        some[0] if len(some) == 1 else f"{len(some):,} {kind} (one of them: {some[0]}); --verbose prints each"
        for kind, some in kinds.items()
    ]


def name_some(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """Return the first `most` names, and how many more there are."""
    more = (
        f"{'' if separator == ', ' else separator.rstrip()} and {len(names) - most} more" if len(names) > most else ""
    )
    return separator.join(names[:most]) + more
