"""A pilot: a worker that was, or is to be, submitted into a batch system. `pilot.json` in its directory has what is known of it.

The directory `open/<number>/` is made whole, with the script, by one rename. It says that the pilot is about to be submitted,
under a name that no other has. Only a turn (turn.py) writes here. Each change of pilot.json has the next revision, and is
journaled as a whole; so a kill between the two is mended by journaling it again.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple

from jobjar.journal.entries import pilot_entry
from jobjar.journal.read import Entry
from jobjar.layout import PilotPaths, PilotQueuePaths
from jobjar.shared_disk.contents import (
    Document,
    Unreadable,
    is_count,
    is_name,
    is_text,
    is_time,
    or_none,
    read_document,
)
from jobjar.shared_disk.files import list_if_there, replace_file
from jobjar.shared_disk.regular import UnfitFile

# What is known of a pilot: that it is to be submitted; that it waits in the system's queue; that it runs; that it has ended.
INTENDED, WAITING, RUNNING, ENDED = "intended", "waiting", "running", "ended"
_TIMES = ("submitted_at", "started_at", "ended_at")
_TEXTS = ("system_id", "word", "reason", "on_node", "worker", "worker_id", "end_reason", "message")
PILOT = Document(
    "what a pilot is",
    {
        "queue": is_name,
        "number": is_count,
        "name": is_name,
        "revision": is_count,
        "state": is_name,
        "intended_at": is_time,
        "since": is_time,
    },
    {**dict.fromkeys(_TIMES, or_none(is_time)), **dict.fromkeys(_TEXTS, or_none(is_text))},
)


class Pilot(NamedTuple):
    """What is known of a pilot. Times are the disk's: `since` when it came into its state. `word` and `reason` are the system's
    own; `end_reason` is one of systems.py or turn.py; `message` is for people."""

    queue: str
    number: int
    name: str
    revision: int
    state: str
    intended_at: float
    since: float
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    system_id: str | None = None
    word: str | None = None
    reason: str | None = None
    on_node: str | None = None
    worker: str | None = None
    worker_id: str | None = None
    end_reason: str | None = None
    message: str | None = None

    @property
    def key(self) -> str:
        """What its worker is told, and worker.json says."""
        return f"{self.queue}/{self.number}/{self.name}"

    def changed(self, **fields: Any) -> Pilot:
        """The same pilot with other fields; with the next revision, if they are others."""
        other = self._replace(**fields)
        return self if other == self else other._replace(revision=self.revision + 1)

    def entry(self) -> Entry:
        """The journal entry `pilot`."""
        return pilot_entry(**self._asdict())

    def text(self) -> bytes:
        """The content of its pilot.json."""
        return (
            json.dumps({name: value for name, value in self._asdict().items() if value is not None}, indent=1) + "\n"
        ).encode()


def read_pilot(path: str) -> Pilot | None:
    """Read the pilot in a directory; None if there is none that can be read. Raises OSError."""
    try:
        data = read_document(PilotPaths(path).file, PILOT)
    except (FileNotFoundError, NotADirectoryError, Unreadable, UnfitFile):
        return None
    return Pilot(**{name: data.get(name) for name in Pilot._fields})  # type: ignore[arg-type]


def write_pilot(paths: PilotQueuePaths, pilot: Pilot) -> None:
    """Write what is known of an open pilot. Raises OSError."""
    replace_file(PilotPaths(f"{paths.open}/{pilot.number}").file, pilot.text())


def numbers_in(path: str) -> list[int]:
    """The numbers of the pilots in `open/` or `ended/`. Raises OSError."""
    return sorted(int(name) for name in list_if_there(path) if name.isdecimal())


def open_pilots(paths: PilotQueuePaths) -> list[Pilot]:
    """The pilots of a queue that have not ended. Raises OSError."""
    found = (read_pilot(f"{paths.open}/{number}") for number in numbers_in(paths.open))
    return [pilot for pilot in found if pilot is not None]


def find_pilot(paths: PilotQueuePaths, word: str) -> tuple[Pilot, PilotPaths] | None:
    """The pilot of a number, of a batch system's id, or of a name. Raises OSError."""
    for directory in (paths.open, paths.ended):
        for number in sorted(numbers_in(directory), reverse=True):
            path = f"{directory}/{number}"
            with contextlib.suppress(FileNotFoundError):
                pilot = read_pilot(path)
                if pilot is not None and word in (str(number), pilot.system_id, pilot.name):
                    return pilot, PilotPaths(path)
    return None
