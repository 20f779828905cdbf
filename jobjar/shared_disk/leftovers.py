"""Remove temporary files whose process died before it renamed them. Nothing else is changed."""

from __future__ import annotations

import contextlib
import os
import re

from jobjar.liveness import is_maker_dead
from jobjar.shared_disk.files import remove_file
from jobjar.shared_disk.patience import patiently


def remove_leftovers(directory: str, pattern: str) -> list[str]:
    """Remove the files in `directory` whose whole names match `pattern` and whose process is dead (liveness.is_maker_dead).

    Returns their names; none for a missing directory. Raises OSError.
    """
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for name in patiently(lambda: os.listdir(directory), directory):
            found = re.fullmatch(pattern, name)
            if found and is_maker_dead(found):
                remove_file(f"{directory}/{name}")
                removed.append(name)
    return removed
