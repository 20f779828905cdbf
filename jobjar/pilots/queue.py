"""A queue of pilots: what a person asked for, as `pilots/<name>/queue.json` has it, and whether it is paused or removed.

    queue.json      what to submit, and how many at most; written once
    paused.json     it submits nothing: by whom, since when, and why; a person or a turn makes it, a person removes it
    failures.json   how many pilots failed in a row, and what was said of the last; only turns write it
    removed.json    it submits nothing any more, and goes when its last pilot has ended
    turn/           a soft lock (turn.py)

Each file is written whole, by rename. A kill leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.errors import CannotUseJar, JarError, UsageError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.names import check_identifier
from jobjar.journal.entries import pilot_queue_entry
from jobjar.journal.read import Entry
from jobjar.layout import Layout, PilotQueuePaths
from jobjar.shared_disk.contents import (
    Document,
    Unreadable,
    is_category,
    is_count,
    is_name,
    is_number,
    is_text,
    is_time,
    list_of,
    read_document,
)
from jobjar.shared_disk.creating import temporary_path_of_node
from jobjar.shared_disk.files import list_if_there, look, make_directory, remove_file, replace_file
from jobjar.shared_disk.moves import rename_directory
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.trees import remove_tree

QUEUE = Document(
    "what a queue of pilots is",
    {
        "queue": is_name,
        "system": is_name,
        "categories": list_of(is_category),
        "options": list_of(is_text),
        "before": list_of(is_text),
        **dict.fromkeys(("time_s", "work_s", "idle_exit_s"), is_number),
        **dict.fromkeys(("most", "backlog", "failures", "cores", "memory_mib", "gpus"), is_count),
        "added_at": is_time,
        "added_by": is_text,
    },
    {},
)
# What removed.json says if also the pilots that run are to be cancelled.
CANCEL_ALL = "removed with all its pilots"
_NOTE = Document("why a queue of pilots submits nothing", {"by": is_text, "at": is_time, "why": is_text}, {})
_FAILURES = Document("how many pilots failed", {"in_a_row": is_count, "said": is_text}, {})


class Plan(NamedTuple):
    """What to submit. A pilot may run for `time_s`, and its worker takes jobs for `work_s` of them. Times are seconds; 0 of
    cores, memory (MiB) and GPUs asks for nothing. `before` are lines of shell that run on the node before the worker.
    `failures` in a row pause the queue."""

    queue: str
    system: str
    categories: tuple[str, ...]
    time_s: float
    work_s: float
    most: int
    backlog: int
    idle_exit_s: float
    failures: int
    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    cores: int = 0
    memory_mib: int = 0
    gpus: int = 0
    added_at: float = 0.0
    added_by: str = ""


class Note(NamedTuple):
    """Who paused or removed a queue, when (the disk's time), and why."""

    by: str
    at: float
    why: str


class QueueState(NamedTuple):
    """A queue as it is now. `said` is what was said of the last pilot that failed."""

    plan: Plan
    paths: PilotQueuePaths
    paused: Note | None
    removed: Note | None
    failures: int
    said: str

    @property
    def name(self) -> str:
        return self.plan.queue


def add_queue(jar: Jar, plan: Plan) -> Plan:
    """Make a queue of pilots. Raises UsageError if there is one of its name, BadIdentifier, CannotUseJar."""
    paths = jar.layout.pilot_queue(check_identifier(plan.queue))
    try:
        with contextlib.suppress(FileExistsError):
            make_directory(jar.layout.pilots)
        plan = plan._replace(added_at=jar.disk_now(), added_by=login())
        prepared = PilotQueuePaths(temporary_path_of_node(f"{jar.layout.pilots}/.{plan.queue}"))
        for path in (prepared.path, prepared.open, prepared.ended):
            make_directory(path)
        replace_file(prepared.file, _text(plan._asdict()))
        # COMMIT: from here the queue is there
        if not rename_directory(prepared.path, paths.path, lambda: _is_own(paths, plan)):
            remove_tree(prepared.path)
            raise UsageError(reason=_explain_taken(jar.layout, plan.queue))
    except OSError as error:
        raise CannotUseJar(action="add", path=paths.path, reason=explain_at(error, paths.path)) from error
    return plan


def _is_own(paths: PilotQueuePaths, plan: Plan) -> bool:
    with contextlib.suppress(Unreadable, OSError):
        return bool(read_document(paths.file, QUEUE) == json.loads(_text(plan._asdict())))
    return False


def _explain_taken(layout: Layout, name: str) -> str:
    state = read_queue(layout, name)
    if state is not None and state.removed is not None:
        return (
            f"the pilots {name} are being removed, and some of them still run: `jobjar pilots show {name}` lists them"
        )
    return f"there are pilots {name} already: `jobjar pilots show {name}`, or `jobjar pilots remove {name}`"


def read_queue(layout: Layout, name: str) -> QueueState | None:
    """Read a queue; None if there is none, or none that can be read. Raises OSError."""
    paths = layout.pilot_queue(name)
    try:
        data = read_document(paths.file, QUEUE)
    except (FileNotFoundError, NotADirectoryError, Unreadable, UnfitFile):
        return None
    lists = {key: tuple(data[key]) for key in ("categories", "options", "before")}
    plan = Plan(**{**{field: data[field] for field in Plan._fields}, **lists, "queue": name})
    failures = _read(paths.failures_file, _FAILURES) or {}
    return QueueState(
        plan,
        paths,
        _read_note(paths.paused_file),
        _read_note(paths.removed_file),
        failures.get("in_a_row", 0),
        failures.get("said", ""),
    )


def list_queues(layout: Layout) -> list[QueueState]:
    """All queues of pilots, by name. Raises OSError."""
    names = sorted(name for name in list_if_there(layout.pilots) if not name.startswith("."))
    found = (read_queue(layout, name) for name in names)
    return [queue for queue in found if queue is not None]


def find_queue(jar: Jar, name: str) -> QueueState:
    """The queue of a name. Raises BadIdentifier, and JarError if there is none."""
    queue = read_queue(jar.layout, check_identifier(name))
    if queue is None:
        names = [one.name for one in list_queues(jar.layout)]
        there = f"there are: {', '.join(names)}" if names else "`jobjar pilots add` makes some"
        raise JarError(reason=f"there are no pilots {name} in {jar.layout.home}; {there}")
    return queue


def pause_queue(jar: Jar, queue: QueueState, by: str, why: str) -> QueueState:
    """Have a queue submit nothing until it is resumed. Raises OSError."""
    note = Note(by, jar.disk_now(), why)
    replace_file(queue.paths.paused_file, _text(note._asdict()))
    return queue._replace(paused=note)


def resume_queue(queue: QueueState) -> QueueState:
    """Let a queue submit again; its failures are forgotten. Raises OSError."""
    for path in (queue.paths.failures_file, queue.paths.paused_file):
        if look(path) is not None:
            remove_file(path)
    return queue._replace(paused=None, failures=0, said="")


def remove_queue(jar: Jar, queue: QueueState, by: str, cancels_all: bool) -> QueueState:
    """Have a queue submit nothing any more, and its waiting pilots cancelled; with `cancels_all`, those that run, too. A turn
    removes it when its last pilot has ended. Raises OSError."""
    note = Note(by, jar.disk_now(), CANCEL_ALL if cancels_all else "removed")
    replace_file(queue.paths.removed_file, _text(note._asdict()))
    return queue._replace(removed=note)


def note_failures(queue: QueueState, in_a_row: int, said: str) -> QueueState:
    """Write how many pilots failed in a row. Raises OSError."""
    if (in_a_row, said) != (queue.failures, queue.said):
        replace_file(queue.paths.failures_file, _text({"in_a_row": in_a_row, "said": said}))
    return queue._replace(failures=in_a_row, said=said)


def queue_entry(queue: QueueState, changed_at: float, is_gone: bool = False) -> Entry:
    """The journal entry `pilot_queue`."""
    paused = queue.paused
    return pilot_queue_entry(
        queue.name,
        changed_at=changed_at,
        system=queue.plan.system,
        plan=json.dumps(queue.plan._asdict(), sort_keys=True),
        paused_at=None if paused is None else paused.at,
        paused_by=None if paused is None else paused.by,
        paused_why=None if paused is None else paused.why,
        failures=queue.failures,
        said=queue.said,
        removed_at=None if queue.removed is None else queue.removed.at,
        is_gone=is_gone,
    )


def _read_note(path: str) -> Note | None:
    data = _read(path, _NOTE)
    return None if data is None else Note(data["by"], float(data["at"]), data["why"])


def _read(path: str, document: Document) -> dict[str, Any] | None:
    try:
        return read_document(path, document)
    except FileNotFoundError:
        return None
    except (Unreadable, UnfitFile):
        # Somebody wrote something else there: it says at least that it is there.
        return {"by": "", "at": 0.0, "why": f"{os.path.basename(path)} cannot be read"} if document is _NOTE else None


def _text(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()
