"""Find and remove what processes left that died before they renamed it. Nothing else is changed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from jobjar.liveness import is_maker_dead
from jobjar.shared_disk.files import list_names, remove_file


def find_leftovers(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that match `pattern` as a whole and whose process is dead (liveness.is_maker_dead)."""
    matches = map(re.compile(pattern).fullmatch, names)
    return [found.string for found in matches if found is not None and is_maker_dead(found)]


def remove_leftovers(directory: str, pattern: str) -> list[str]:
    """Remove the files in `directory` that `find_leftovers` finds. Returns their names; none for a missing directory. Raises
    OSError."""
    left: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        left = find_leftovers(list_names(directory), pattern)
    for name in left:
        remove_file(f"{directory}/{name}")
    return left
