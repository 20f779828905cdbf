"""Give back the tokens of workers that are over, and clear stray files out of `taken/`.

This comes after the recovery of dead workers' jobs. Renames a token, or removes what is no token. After a kill midway the next
run does the rest.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from jobjar.attempts.limits import (
    Token,
    discard_workshops,
    list_keys,
    list_taken,
    parse_taken,
    put_back,
)
from jobjar.jar import Jar
from jobjar.layout import Layout
from jobjar.liveness import DEAD
from jobjar.roster import ASIDE, WorkerState, list_workers
from jobjar.shared_disk.files import is_directory, list_if_there, look, look_afresh, remove_file
from jobjar.shared_disk.listing import list_held
from jobjar.text import printable_name

_NUMBER = re.compile(r"[1-9][0-9]{0,4}(?=\.|$)")


def holds_jobs(worker: WorkerState) -> bool:
    """Whether a worker's directory has jobs in it. Raises OSError."""
    return any(True for _ in list_held(worker.paths))


def recover_tokens(jar: Jar, log: Callable[[str], None]) -> None:
    """Give back the tokens of workers that are over and hold no job. Such a worker recorded its end, or is dead and was on this
    node, or has no directory any more (it was archived). A failure with one limit is logged. Raises OSError.

    Call it after their jobs were recovered and these jobs' processes were ended.
    """
    # List the tokens before the workers: a worker that held a token then had a directory.
    tokens: list[Token] = []
    for key in list_keys(jar.layout):
        try:
            discard_workshops(jar.layout, key)
            tokens += list_taken(jar.layout, key)
            _put_strays_back(jar.layout, key, log)
        except OSError as error:
            log(f"limits/{key}: what dead workers hold of it cannot be given back: {error.strerror}")
    if not tokens:
        return
    names = set(list_if_there(jar.layout.workers))
    workers = list_workers(jar.layout)
    known = {worker.worker_id: worker for worker in workers}
    # A directory without a readable worker.json may belong to any of the workers.
    unknown = names - {worker.paths.name for worker in workers}
    for token in tokens:
        worker = known.get(token.worker_id)
        if worker is None:
            is_over = not unknown & {token.worker, f"{token.worker}{ASIDE}{token.worker_id}"}
        else:
            is_over = worker.alive == DEAD and not holds_jobs(worker)
        try:
            if worker is None and is_over:
                _put_back(jar.layout, token.limit, os.path.basename(token.path(jar.layout)), log, token.worker)
            elif is_over and put_back(jar.layout, token.limit, os.path.basename(token.path(jar.layout)), token.number):
                log(f"{token.worker}: gave back token {token.number} of the limit {token.limit}")
        except OSError as error:
            log(
                f"{token.worker}: its token {token.number} of the limit {token.limit} cannot be given back: {error.strerror}"
            )


def _put_strays_back(layout: Layout, key: str, log: Callable[[str], None]) -> None:
    """Give back what has a name in taken/ that no worker gives. Raises OSError."""
    for name in sorted(list_if_there(layout.limit(key).taken)):
        if parse_taken(key, name) is None:
            _put_back(layout, key, name, log, "nobody")


def _put_back(layout: Layout, key: str, name: str, log: Callable[[str], None], holder: str) -> None:
    """Free an entry of taken/ that nobody holds, if it is a token and the only one of its number. Else remove it: it would use
    up the limit for ever, or let one job more run. Raises OSError."""
    paths = layout.limit(key)
    path, shown = f"{paths.taken}/{name}", f"limits/{key}/taken/{printable_name(name)}"
    found = _NUMBER.match(name)
    number = int(found.group()) if found else 0
    status = look(path)
    if status is None:
        return
    if stat.S_ISREG(status.st_mode) and number and _is_only_one(layout, key, number, name):
        if put_back(layout, key, name, number):
            log(f"{holder}: gave back token {number} of the limit {key}")
        return
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(path)
    else:
        remove_file(path)
    log(f"removed {shown}, which is no token of this limit")


def _is_only_one(layout: Layout, key: str, number: int, name: str) -> bool:
    """Whether the token of this number was made, and is only in taken/ under this name. Another one that moves meanwhile is
    seen by one of the three looks."""
    paths = layout.limit(key)
    look_afresh(paths.free)  # else an NFS client may not know of a block that another node made
    if not is_directory(paths.block(number)):
        return False
    for directory in (paths.block(number), paths.taken, paths.block(number)):
        look_afresh(directory)
        others = [other for other in list_if_there(directory) if directory != paths.taken or other != name]
        if any((match := _NUMBER.match(other)) and int(match.group()) == number for other in others):
            return False
    return True
