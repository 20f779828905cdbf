"""Temporary files whose process died before it gave them their names. Removes them, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re

from jobjar.liveness import is_left
from jobjar.shared_disk.files import remove_file
from jobjar.shared_disk.patience import patiently


def remove_leftovers(directory: str, pattern: str) -> list[str]:
    """Remove the files of `directory` that match `pattern` whole, and whose process is no more, as its mark (liveness.MARK)
    tells, or its node (liveness.own_nodes). Returns their names; a missing directory has none. Raises OSError."""
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for name in patiently(lambda: os.listdir(directory), directory):
            found = re.fullmatch(pattern, name)
            if found and is_left(found):
                remove_file(f"{directory}/{name}")
                removed.append(name)
    return removed
