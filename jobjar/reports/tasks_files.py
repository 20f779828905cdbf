"""Files of one's own that the tasks of an array write their output to: where they are.

The paths follow from the pattern that the array was given. The ledger has a note of a task whose file is elsewhere. Reads the
definition of the array.
"""

from __future__ import annotations

from jobjar.arrays.definition import Definition, read_definition
from jobjar.attempts.own_output import find_where
from jobjar.jar import Jar
from jobjar.shared_disk.contents import Unreadable

STREAMS = ("output", "error")


class TasksFiles:
    """The files of an array's tasks, by its id."""

    def __init__(self, jar: Jar, uid: str) -> None:
        self._definition: Definition | None = None
        try:
            definition = read_definition(jar.layout, uid)
        except (Unreadable, OSError):
            return  # it is archived, or was removed
        if definition.given is not None and (definition.given.output, definition.given.error) != (None, None):
            self._definition = definition

    def find(self, index: int, message: str | None) -> dict[str, str]:
        """The paths of a task's files by stream, for a task that was run; `message` is that of its end."""
        paths: dict[str, str] = {}
        if self._definition is not None:
            for stream in STREAMS:
                path = find_where(stream, message or "") or self._definition.output_path(stream, index, 1)
                if path is not None:
                    paths[stream] = path
        return paths
