"""Waiting jobs that no running worker may take, because of their owner, mode or attributes: for reports.

Reads the status of directories and files in unclaimed/; writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

from jobjar.access.access import User, may_move, may_run, may_take_from, this_user, user_of
from jobjar.access.refusals import (
    explain_attribute,
    explain_directory,
    explain_disk,
    explain_file,
    explain_forbidden,
    explain_sticky,
)
from jobjar.layout import Layout, category_of_place
from jobjar.roster import WorkerState
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.immutable import attribute_that_keeps
from jobjar.shared_disk.listing import list_directories, list_directory
from jobjar.shared_disk.patience import patiently

# Of a larger directory no more files are asked for their attributes, each of which takes a look of its own.
_MOST_ATTRIBUTES = 10_000


class Refused:
    """Collects refused places in `found`: (place, why and what to do). Callers that list files anyway pass them in one by one."""

    def __init__(self, layout: Layout, running: Iterable[WorkerState]) -> None:
        self.found: list[tuple[str, str]] = []
        self._layout = layout
        self._running = list(running)
        self._users: dict[str, User | None] = {}
        self._may_enter: dict[str, list[User]] = {}
        self._directories: dict[str, os.stat_result] = {}

    def look_at_directory(self, category: str) -> bool:
        """Look at a category's directory, before its files; returns whether this user may list it."""
        path = self._layout.category_directory(category)
        status = look(path)
        if status is None:
            return False
        self._directories[category] = status
        asking = self._asking(category)
        self._may_enter[category] = [user for user in asking if may_take_from(path, status, user)]
        may_list = os.access(path, os.R_OK | os.X_OK)
        if asking and not self._may_enter[category]:
            self.found.append((f"unclaimed/{category}/", explain_directory(status, _name(asking))))
        elif asking and (letter := attribute_that_keeps(path)) is not None:
            self.found.append((f"unclaimed/{category}/", explain_attribute(letter, path)))
        elif not may_list:
            self.found.append((f"unclaimed/{category}/", explain_directory(status, this_user().name)))
        return may_list

    def is_asked_for(self, category: str) -> bool:
        """Whether a running worker may take jobs from a category that was looked at before, so that its files matter."""
        return bool(self._may_enter.get(category))

    def look_at_file(self, category: str, name: str, status: os.stat_result, looks_at_attributes: bool = True) -> None:
        """Look at a job file in a directory that was looked at before."""
        asking = self._may_enter.get(category, [])
        path = f"{self._layout.category_directory(category)}/{name}"
        shown = f"unclaimed/{category}/{name}".replace("//", "/")
        if not asking:
            return
        if not any(may_run(path, status, user) for user in asking):
            self.found.append((shown, explain_file(status, _name(asking))))
        elif not any(may_move(status, self._directories[category], user) for user in asking):
            self.found.append((shown, explain_sticky(status, _name(asking))))
        elif looks_at_attributes and (letter := attribute_that_keeps(path)) is not None:
            self.found.append((shown, explain_attribute(letter, path)))

    def explain(self, place: str) -> str | None:
        """Why no running worker may take the job at a place; None if one may, or if none asks for it."""
        category = category_of_place(place) or ""
        before = len(self.found)
        self.look_at_directory(category)
        if len(self.found) == before:  # else the file may be out of reach too
            status = look(self._layout.path(place))
            if status is not None:
                self.look_at_file(category, os.path.basename(place), status)
        return self.found[-1][1] if len(self.found) > before else None

    def _asking(self, category: str) -> list[User]:
        """The users whose running workers ask for a category; empty if this node does not know one of them."""
        names = sorted({worker.user for worker in self._running if worker.asks_for(category)})
        for name in names:
            if name not in self._users:
                self._users[name] = user_of(name)
        users = [self._users[name] for name in names]
        # A user who is not known here may have rights that cannot be judged.
        return [] if None in users else [user for user in users if user is not None]


def _name(users: Iterable[User]) -> str:
    return " and ".join(user.name for user in users)


def explain_unmoved(layout: Layout, running: Iterable[WorkerState]) -> str | None:
    """Why jobs cannot be moved out of limbo, or to completed without a run, and what to do; None if nothing speaks against it.
    It tries no write. Raises OSError."""
    asking = [user_of(name) for name in sorted({worker.user for worker in running})]
    for path in (layout.limbo, layout.completed):
        trouble = patiently(partial(explain_disk, path), path)
        if trouble is not None:
            return trouble
        status = look(path)
        if status is None:
            continue
        if asking and not any(user is None or may_take_from(path, status, user) for user in asking):
            return explain_directory(status, _name(user for user in asking if user is not None), path)
        if not asking and not os.access(path, os.W_OK | os.X_OK):
            return explain_forbidden(path)
    return None


def find_refused(layout: Layout, running: Iterable[WorkerState]) -> list[tuple[str, str]]:
    """All that is refused: (place, why and what to do)."""
    refused = Refused(layout, running)
    for category in ["", *list_directories(layout.unclaimed)]:
        if not refused.look_at_directory(category) or not refused.is_asked_for(category):
            continue  # a million files need no look each if nobody could be refused
        for number, entry in enumerate(list_directory(layout.category_directory(category))):
            if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # claimed meanwhile
            if is_job_file(status):
                refused.look_at_file(category, entry.name, status, number < _MOST_ATTRIBUTES)
    return sorted(refused.found)
