"""Remove the directories of executors whose clients have not shown for a day that they live: of killed ones, that is.

A client touches its directory every ten minutes (executor/desk.py). Jobs of such an executor that still wait find no calls, say
so and succeed. A kill midway leaves a part, which the next night removes.
"""

from __future__ import annotations

from collections.abc import Callable

from jobjar.jar import Jar
from jobjar.shared_disk.files import list_if_there, look
from jobjar.shared_disk.trees import remove_tree

_SILENT_S = 86400.0


def sweep_executors(jar: Jar, now: float, log: Callable[[str], None]) -> None:
    """Remove them. `now` is the disk's time. Raises OSError."""
    for name in list_if_there(jar.layout.executors):
        path = jar.layout.executor(name).path
        status = look(path)
        if status is not None and now - status.st_mtime > _SILENT_S:
            kept = remove_tree(path)
            log(f"removed executors/{name}: its client has been silent for a day")
            for one in kept:
                log(f"{one} stays")
