"""The state of a batch: `batches/<name>/batch.json`, and the times of its changes.

The file is written whole, by rename (change.py says when).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from jobjar.batches.plan import check_batch_name
from jobjar.errors import BadIdentifier, CannotUseJar, UnknownBatch
from jobjar.jar import Jar
from jobjar.journal.entries import batch_entry
from jobjar.journal.read import Entry
from jobjar.shared_disk.contents import BATCH, Document, Unreadable, read_document
from jobjar.shared_disk.creating import move_between, opened, write_whole_in
from jobjar.shared_disk.files import common_mode, look
from jobjar.shared_disk.regular import UnfitFile, open_directory_below

# The least difference between the times of two changes, so that changes within one tick of the disk's clock differ.
_TICK_S = 1e-6
_LOOK_AT_CLOCK_S = 0.01
_FAIL_FAST = ("fail_fast", "yes")


class BatchState:
    """The content of a batch.json. Times are the disk's."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.name: str = data["batch"]
        self.change: str = data["change"]
        self.keys: tuple[tuple[str, str], ...] = tuple((key, value) for key, value in data["keys"])
        self.seeds: str | None = data["seeds"]
        self.has_blocks: bool = data["has_blocks"]
        self.is_aborted: bool = data["is_aborted"]
        self.changed_at: float = data["changed_at"]
        self.restarted_until: float = data["restarted_until"]

    def entry(self) -> Entry:
        """The journal entry `batch`."""
        array = self.data.get("array")
        said = [*self.keys, *([("seeds", self.seeds)] if self.seeds is not None else [])]
        return batch_entry(
            self.name,
            submitter=self.data["submitter"],
            submitted_at=self.data["submitted_at"],
            description="\n".join(f"{key} = {value}" for key, value in said),
            changed_at=self.data["changed_at"],
            jobs=self.data["jobs"],
            notes=dict(self.keys).get("notes"),
            is_aborted=self.is_aborted,
            restarted_until=self.restarted_until,
            array=None
            if array is None
            else {name: array[name] for name in ("first", "last", "step", "lives") if name in array},
        )


def first_keys(is_to_fail_fast: bool, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The keys of a new batch. A ledger knows one that stops at its first failure by the first of them (ledger/fail_fast.py)."""
    return [_FAIL_FAST, *keys] if is_to_fail_fast else list(keys)


def fails_fast(keys: Sequence[Sequence[str]]) -> bool:
    """Whether a batch of these keys stops at its first failure."""
    return bool(keys) and tuple(keys[0]) == _FAIL_FAST


def disk_now(jar: Jar, after: float = 0.0) -> float:
    """The disk's time, but always later than `after`: a disk whose times are whole seconds shows several changes at one time."""
    return round(max(jar.disk_now(), after + _TICK_S), 6)


def wait_until_past(jar: Jar, moment: float) -> None:
    """Wait until the disk's clock is past `moment`, so that every later move has a later time. That takes a second at most."""
    while disk_now(jar) <= moment:
        time.sleep(_LOOK_AT_CLOCK_S)


def check_known(jar: Jar, name: str) -> None:
    """Raise UnknownBatch if no batch can have this name."""
    try:
        check_batch_name(name)
    except BadIdentifier:
        raise UnknownBatch(name=name, home=jar.layout.home) from None


def read_batch(jar: Jar, name: str) -> BatchState:
    """Raises UnknownBatch, CannotUseJar."""
    state = read_json(jar.layout.batch(name).file, BATCH)
    if state is None:
        raise UnknownBatch(name=name, home=jar.layout.home)
    return BatchState(state)


def read_json(path: str, document: Document) -> dict[str, Any] | None:
    """The content of a batch's file, or None where there is no such file. Raises CannotUseJar."""
    try:
        return read_document(path, document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (Unreadable, UnfitFile) as error:
        reason = error.strerror if isinstance(error, UnfitFile) else f"it is not what was written there: {error}"
        raise CannotUseJar(action="read", path=path, reason=reason) from error


def open_batches(jar: Jar, path: str) -> contextlib.AbstractContextManager[int]:
    """Open a directory at or below batches/ without following links: a member of a group's jar may put a link there at any
    moment."""
    names = os.path.relpath(path, jar.layout.home).split("/")
    return opened(lambda: open_directory_below(jar.layout.home, *names), path)


def write_json(jar: Jar, path: str, data: dict[str, Any]) -> None:
    """Write a file of a batch whole. Raises OSError."""
    with open_batches(jar, os.path.dirname(path)) as directory:
        write_json_in(jar, directory, path, data)


def write_json_in(jar: Jar, directory: int, path: str, data: dict[str, Any]) -> None:
    """`write_json` in an open directory."""
    write_whole_in(directory, path, (json.dumps(data, indent=1) + "\n").encode(), common_mode(jar.layout.batches))


def move_json(jar: Jar, source: str, target: str) -> None:
    """Rename a file of a batch, replacing `target`. Another process may have done it already. Raises OSError."""
    try:
        with open_batches(jar, os.path.dirname(source)) as here, open_batches(jar, os.path.dirname(target)) as there:
            move_between(here, os.path.basename(source), there, os.path.basename(target), source)
    except FileNotFoundError:
        if look(target) is None:
            raise
