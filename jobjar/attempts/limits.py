"""Limits: at most N jobs of a category, or of a batch, at once, over all nodes.

    limits/category.LINUX/count                    N; without it there is no limit
    limits/category.LINUX/free/0/3                 token 3, which nobody holds
    limits/category.LINUX/taken/3.17.rain.7.<id>   the same token: the 17th that worker rain.7 of that id took

A worker takes a token by a rename before it claims a job, and gives it back by a rename after the job's end. So at most N
tokens are held, whatever any node believes. No clock and no lock is needed.

Tokens are made in blocks. One rename of a whole directory publishes a block, for ever: it always holds the file `made`, and
a rename never replaces a directory that is not empty. From then on a token is only renamed. So it is in one place at any time,
and no crash can lose or double it. The count is a file beside them, replaced by a rename. A worker reads it after it took a
token, and gives the token back if it is not allowed any more. A kill at any point leaves a token free, or held by a dead
worker, whose tokens recovery gives back.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.causes import Cause, Standing
from jobjar.errors import BadLimit, CannotUseJar
from jobjar.jar import Jar
from jobjar.job_file.description import STORAGE_CATEGORY, storage_category
from jobjar.job_file.names import check_category, check_identifier
from jobjar.layout import TOKENS_IN_BLOCK, Layout, LimitPaths
from jobjar.liveness import DEAD
from jobjar.roster import read_worker
from jobjar.shared_disk.creating import (
    create_file,
    make_directory_in,
    move_between,
    opened,
    temporary_of_nodes,
    temporary_path_of_node,
    write_whole_in,
)
from jobjar.shared_disk.files import is_directory, list_if_there, look, look_afresh, make_directory, read_file, rename
from jobjar.shared_disk.leftovers import find_leftovers
from jobjar.shared_disk.patience import FLICKER_S, do_once, patiently
from jobjar.shared_disk.regular import UnfitFile, open_directory_below, open_directory_in, pass_over
from jobjar.shared_disk.trees import remove_entry

CATEGORY, STORAGE, BATCH = "category", "storage", "batch"
HIGHEST = 9_999
_KEY = re.compile(rf"({CATEGORY}|{BATCH})\.(.*)", re.DOTALL)
_TAKEN = re.compile(r"([0-9]{1,5})\.([0-9]+)\.(.+)\.([^.]+)")
_MARK = "made"


class Token(NamedTuple):
    """A token that a worker holds. `take` counts the tokens that this worker took, so that no two have the same name."""

    limit: str
    number: int
    take: int
    worker: str
    worker_id: str

    def path(self, layout: Layout) -> str:
        return f"{layout.limit(self.limit).taken}/{self.number}.{self.take}.{self.worker}.{self.worker_id}"


class LimitState(NamedTuple):
    """The state of a limit. `most` is None if there is no limit. `free` has the numbers of the tokens that may be taken."""

    key: str
    most: int | None
    free: list[int]
    taken: list[Token]

    @property
    def kind(self) -> str:
        if self.key.startswith(f"{CATEGORY}.{STORAGE_CATEGORY}"):
            return STORAGE
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        name = self.key.partition(".")[2]
        return name.removeprefix(STORAGE_CATEGORY) if self.kind == STORAGE else name

    @property
    def left(self) -> int | None:
        """How many more jobs may begin now; None if there is no limit."""
        return None if self.most is None else max(0, min(len(self.free), self.most - len(self.taken)))


def limit_key(kind: str, name: str) -> str:
    """The name of a limit's directory. The category '' stands for uncategorized jobs. Raises BadCategory, BadIdentifier."""
    if kind == BATCH:
        return f"{BATCH}.{check_identifier(name)}"
    if kind == STORAGE:
        return f"{CATEGORY}.{storage_category(check_category(name))}"
    return f"{CATEGORY}.{check_category(name) if name else ''}"


def parse_count(text: str) -> int | None:
    """A limit as people write it; None for `none`. Raises BadLimit."""
    if text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > HIGHEST:
        raise BadLimit(value=text, highest=HIGHEST)
    return int(text)


def keys_of(category: str, batch: str | None) -> Iterator[str]:
    """The limits for a job of a category and a batch, in the order in which their tokens are taken. From its stage-in to its
    stage-out, those of its category and its batch hold. While it is stored, only that of its storage class holds."""
    yield f"{CATEGORY}.{category}"
    if batch and not category.startswith(STORAGE_CATEGORY):
        yield f"{BATCH}.{batch}"


# Setting


def set_limit(jar: Jar, kind: str, name: str, count: int | None) -> None:
    """Let at most `count` jobs of a category (`kind` CATEGORY), a storage class or a batch run at once; None removes the
    limit. Raises BadCategory, BadIdentifier, BadLimit, CannotUseJar.

    Jobs that run already go on. If they are more than `count`, a new one begins only when fewer than `count` run. Jobs that
    began while there was no limit are not counted. Workers notice a new limit within JJ_POLL_TIME, and a changed one at once.
    """
    key = limit_key(kind, name)
    if count is not None and not 0 <= count <= HIGHEST:
        raise BadLimit(value=count, highest=HIGHEST)
    paths = jar.layout.limit(key)
    try:
        if count is None:
            with contextlib.suppress(FileNotFoundError), _opened(jar.layout, key) as limit:
                # COMMIT: from here there is no limit
                do_once(lambda: os.unlink("count", dir_fd=limit), paths.count_file)
            return
        with contextlib.suppress(FileExistsError):
            make_directory(jar.layout.limits)
        with _opened(jar.layout) as limits:
            make_directory_in(limits, key, paths.path)
        # Descriptors are used because, in a group's jar, a member may replace any of these directories by a link meanwhile.
        with _opened(jar.layout, key) as limit:
            make_directory_in(limit, "free", paths.free)
            make_directory_in(limit, "taken", paths.taken)
            _discard_workshops_in(limit, paths)
            _make_tokens(limit, paths, count)
    except OSError as error:
        raise CannotUseJar(action="set the limit", path=paths.path, reason=explain_at(error, paths.path)) from error


def _opened(layout: Layout, *names: str) -> contextlib.AbstractContextManager[int]:
    """Open a directory of limits; no link is followed on the way."""
    path = "/".join((layout.limits, *names))
    return opened(lambda: open_directory_below(layout.home, "limits", *names), path)


def _make_tokens(limit: int, paths: LimitPaths, count: int) -> None:
    """Make the tokens that are still missing, and then the count."""
    workshop_path = temporary_path_of_node(f"{paths.path}/")
    name = os.path.basename(workshop_path)
    make_directory_in(limit, name, workshop_path)
    try:
        with (
            opened(lambda: open_directory_in(limit, name, workshop_path), workshop_path) as workshop,
            opened(lambda: open_directory_in(limit, "free", paths.free), paths.free) as free,
        ):
            for first in range(1, count + 1, TOKENS_IN_BLOCK):
                _make_block(workshop, free, paths.block(first), first)
            write_whole_in(workshop, f"{workshop_path}/count", f"{count}\n".encode(), 0o644)
            # COMMIT: from here the limit is `count`
            move_between(workshop, "count", limit, "count", paths.count_file)
    finally:
        remove_entry(limit, paths.path, name)


def _make_block(workshop: int, free: int, path: str, first: int) -> None:
    """Make the tokens of the block at `path`, unless any process has made them already."""
    name = os.path.basename(path)
    if _is_directory_in(free, name):
        return
    os.mkdir(name, dir_fd=workshop)
    with opened(lambda: open_directory_in(workshop, name, path), path) as made:
        for token in (_MARK, *map(str, range(first, first + TOKENS_IN_BLOCK))):
            os.close(create_file(token, 0o660, dir_fd=made))
    try:
        # COMMIT: from here these tokens are there, for ever. A directory that is not empty is never replaced.
        patiently(lambda: os.rename(name, name, src_dir_fd=workshop, dst_dir_fd=free), path)
    except OSError:
        # Another process was quicker, or the rename happened although it failed (NFS). Believe the destination, not the error.
        if not _is_directory_in(free, name):
            raise


def _is_directory_in(directory: int, name: str) -> bool:
    try:
        status = patiently(lambda: os.stat(name, dir_fd=directory, follow_symlinks=False), name)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode)


def discard_workshops(layout: Layout, key: str) -> None:
    """Remove the half-made directories of this node's killed processes. Raises OSError."""
    with _opened(layout, key) as limit:
        _discard_workshops_in(limit, layout.limit(key))


def _discard_workshops_in(limit: int, paths: LimitPaths) -> None:
    names = patiently(lambda: os.listdir(limit), paths.path)
    for name in find_leftovers(names, "(?:new)?" + temporary_of_nodes(r"(?:\.new)?")):
        remove_entry(limit, paths.path, name)


def put_back(layout: Layout, key: str, name: str, number: int) -> bool:
    """Make the token of this name in taken/ free, on behalf of its worker. No link is followed on the way. Returns whether it
    was there. Raises OSError."""
    path = layout.limit(key).free_token(number)
    block = os.path.basename(os.path.dirname(path))
    try:
        with _opened(layout, key, "taken") as taken, _opened(layout, key, "free", block) as free:
            move_between(taken, name, free, str(number), path)
    except FileNotFoundError:
        return False
    return True


# Looking


def list_keys(layout: Layout) -> list[str]:
    """The names of the limits that exist or existed, sorted. Only directories count. Raises OSError."""
    names = filter(_KEY.fullmatch, list_if_there(layout.limits))
    return sorted(name for name in names if is_directory(layout.limit(name).path))


def read_count(paths: LimitPaths, is_network: bool = False) -> int | None:
    """How many jobs may run; None if there is no limit. A count that is no number lets nothing run. Raises OSError."""
    if is_network:
        look_afresh(paths.path)  # else a client may go on reading the replaced file
    try:
        text = _read_count_text(paths)
    except FileNotFoundError:
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


def _read_count_text(paths: LimitPaths) -> str:
    """The text of the count; '?' if it is no regular file. Raises FileNotFoundError, OSError."""
    try:
        return read_file(paths.count_file, FLICKER_S, size=100).decode("ascii", "replace").strip()
    except UnfitFile as error:
        pass_over(paths.count_file, error.strerror)
        return "?"


def list_free(paths: LimitPaths, count: int) -> list[int]:
    """The free tokens that a limit of `count` allows. Raises OSError."""
    free: list[int] = []
    for first in range(1, count + 1, TOKENS_IN_BLOCK):
        free += [int(name) for name in list_if_there(paths.block(first)) if name.isdecimal() and int(name) <= count]
    return free


def list_taken(layout: Layout, key: str) -> list[Token]:
    """The tokens of a limit that workers hold. Raises OSError."""
    found = (parse_taken(key, name) for name in list_if_there(layout.limit(key).taken))
    return [token for token in found if token is not None]


def parse_taken(key: str, name: str) -> Token | None:
    """The token with this name in taken/; None if no worker gives such a name."""
    match = _TAKEN.fullmatch(name)
    return Token(key, int(match[1]), int(match[2]), match[3], match[4]) if match else None


def list_all_taken(layout: Layout) -> list[Token]:
    """All tokens that workers hold. Raises OSError."""
    return [token for key in list_keys(layout) for token in list_taken(layout, key)]


def read_limit(layout: Layout, key: str) -> LimitState:
    """The state of one limit. Raises OSError."""
    paths = layout.limit(key)
    count = read_count(paths, is_network=True)
    free = sorted(list_free(paths, count)) if count else []
    return LimitState(key, count, free, sorted(list_taken(layout, key)))


def list_limits(layout: Layout) -> list[LimitState]:
    """The limits that are in force, by kind and name. Raises OSError."""
    states = [read_limit(layout, key) for key in list_keys(layout)]
    return sorted((state for state in states if state.most is not None), key=lambda state: (state.kind, state.name))


def describe_limits(layout: Layout) -> list[dict[str, Any]]:
    """The limits that are in force: `kind` (category, storage, batch), `name`, `limit`, how many more jobs may begin (`free`),
    and the workers that hold tokens (`taken`). Raises OSError."""
    return [
        {
            "kind": state.kind,
            "name": state.name,
            "limit": state.most,
            "free": state.left,
            "taken": sorted(token.worker for token in state.taken),
        }
        for state in list_limits(layout)
    ]


def explain_limit(layout: Layout, key: str) -> Standing | None:
    """Explain that a limit keeps jobs from being claimed now, and what to do; None if it does not. Raises OSError."""
    state = read_limit(layout, key)
    if state.left != 0:
        return None
    raises = f"`workload_limit {state.name or repr('')} N` sets another"
    if state.kind != CATEGORY:
        raises = f"`workload_limit --{state.kind} {state.name} N` sets another"
    does = raises if not state.taken else f"it goes on when one of them ends; {raises}"
    for token in state.taken:
        holder = read_worker(layout, token.worker)
        if holder is None or (holder.worker_id == token.worker_id and holder.alive == DEAD):
            does = f"{token.worker}, which holds a token of it, is dead: `recover_jobs` gives that back"
    return Standing(Cause.LIMIT, f"the limit of {name_limit(state)} ({state.most}) is used up", does)


def name_limit(state: LimitState) -> str:
    kind = "storage class" if state.kind == STORAGE else state.kind
    return f"{kind} {state.name}" if state.name else "uncategorized jobs"


def find_faults(layout: Layout) -> list[str]:
    """Tokens that are in two places or in none, and counts that are no numbers. Nothing in Job Jar causes these. For
    `jobjar check`."""
    lines = []
    for key in list_keys(layout):
        paths = layout.limit(key)
        count_text = _read_count_text(paths) if look(paths.count_file) else "0"
        if not re.fullmatch(r"[0-9]{1,9}", count_text):
            lines.append(f"limits/{key}/count: {count_text[:20]!r} is not a number: none of it is run")
        blocks = [int(name) for name in list_if_there(paths.free) if name.isdecimal()]
        numbers = range(1, TOKENS_IN_BLOCK * (max(blocks, default=-1) + 1) + 1)
        # A token may move between free/ and taken/ meanwhile. Three looks miss none that exists.
        free = set(list_free(paths, len(numbers)))
        taken = [token.number for token in list_taken(layout, key)]
        again = set(list_free(paths, len(numbers)))
        for number in numbers:
            if taken.count(number) + (number in free & again) > 1:
                lines.append(f"limits/{key}: token {number} is in two places")
            elif number not in taken and number not in free | again:
                lines.append(
                    f"limits/{key}: token {number} is gone; set the limit to none, wait until none of it runs, remove"
                )
                lines[-1] += f" {paths.path}, and set it again"
    return lines


# Taking and giving back


def return_token(layout: Layout, token: Token) -> bool:
    """Make a token free; returns whether it was held. Raises OSError."""
    try:
        rename(token.path(layout), layout.limit(token.limit).free_token(token.number))
    except FileNotFoundError:
        return False
    return True
