"""Tidy what crashes left, other than jobs: links, half copies, half-written files, directories of workers that never began.

Reads the directories, and the ledger for half copies. Removes only what no process can still use. After a kill midway the next
run removes the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable

from jobjar.attempts.claimed_links import link_job_again, linked_place, list_links
from jobjar.attempts.tokens_left import holds_jobs
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name
from jobjar.layout import WorkerPaths, name_in_place
from jobjar.ledger.ask_claiming import uid_is_taken
from jobjar.ledger.fold import fold_journals
from jobjar.liveness import MARK, is_maker_dead, own_nodes
from jobjar.roster import ASIDE, list_workers
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.creating import TEMPORARY, temporary_of_nodes
from jobjar.shared_disk.files import is_job_file, look, remove_file
from jobjar.shared_disk.leftovers import find_leftovers, remove_leftovers
from jobjar.shared_disk.listing import list_directory, list_held, list_jar

_DAY_S = 86400.0
# If a link is missing for so long, its worker is not about to make it.
_LINK_OVERDUE_S = 60.0


def tidy_up(jar: Jar, log: Callable[[str], None]) -> None:
    """Remove or put right all of these. Raises OSError, LedgerError."""
    _discard_unborn_workers(jar, log)
    tidy_links(jar, log)
    _discard_half_copies(jar, log)
    _discard_half_written(jar, log)


def _discard_unborn_workers(jar: Jar, log: Callable[[str], None]) -> None:
    """Remove the directories of this node's workers that were killed before they had begun. A directory with other content
    stays."""
    entries = list(list_directory(jar.layout.workers))
    unborn = find_leftovers((entry.name for entry in entries), rf"\.{own_nodes()}\.[0-9-]+" + TEMPORARY)
    for entry in entries:
        paths = jar.layout.worker(entry.name)
        if entry.name in unborn:
            remove_file(paths.identity_file)
        elif not _is_unborn_of_earlier_release(entry, paths):
            continue
        remove_leftovers(paths.path, r"worker\.json" + TEMPORARY)
        with contextlib.suppress(OSError):  # not empty
            for path in (paths.jobs, paths.scratch, paths.output, paths.discarded_links):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(path)
            os.rmdir(paths.path)
            log(f"removed workers/{entry.name}: its worker was killed before it had begun")


def _is_unborn_of_earlier_release(entry: os.DirEntry[str], paths: WorkerPaths) -> bool:
    """Whether a worker of an earlier release was killed before it wrote worker.json. Those made their directory under its final
    name."""
    found = re.fullmatch(rf"{own_nodes()}\.{MARK}", entry.name.partition(ASIDE)[0])
    if not found or not entry.is_dir(follow_symlinks=False):
        return False
    is_being_made = ASIDE not in entry.name and not is_maker_dead(found)
    return not is_being_made and look(paths.identity_file) is None


def tidy_links(jar: Jar, log: Callable[[str], None]) -> None:
    """Make claimed/ hold a link to each claimed job, and no other links."""
    # Listed before the workers: a worker that begins now makes its directory first, and its link then.
    links = list_links(jar.layout)
    workers = list_workers(jar.layout)
    needed = {worker.name for worker in workers if worker.is_running}
    # A dead worker may hold jobs that only its user can end.
    needed |= {worker.paths.name for worker in workers if holds_jobs(worker)}
    for entry in links.of_workers:
        if entry.name.removeprefix(".") not in needed:
            remove_file(entry.path)
    linked = set()
    for entry in links.of_jobs:
        place = linked_place(jar.layout, entry.path)
        if place is not None:
            linked.add(place)
        else:
            remove_file(entry.path)
            log(f"removed the stale link claimed/{entry.name}")
    now = jar.disk_now()
    for worker in workers:
        for place, entry in list_held(worker.paths):
            with contextlib.suppress(OSError):
                if place not in linked and now - disk_time(entry.stat()) > _LINK_OVERDUE_S:
                    link_job_again(jar.layout, entry.path)
                    log(f"made the missing link claimed/{name_in_place(place)}")


def _discard_half_copies(jar: Jar, log: Callable[[str], None]) -> None:
    """Remove what killed submissions left in limbo: files with a generated name, without a run bit, a day old, in no journal."""
    now = jar.disk_now()
    for place, entry in list_jar(jar.layout.limbo, "limbo"):
        uid = id_in_name(entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
            if uid is None or is_job_file(status) or now - status.st_mtime < _DAY_S:
                continue
            with jar.ledger.writing() as connection:
                fold_journals(connection, jar.layout)
                if uid_is_taken(connection, uid):
                    continue
            remove_file(entry.path)
            log(f"discarded the half copy {place}")
        except FileNotFoundError:
            continue


def _discard_half_written(jar: Jar, log: Callable[[str], None]) -> None:
    """Remove temporary files that killed processes of this node were writing: of the ledger home, and of the snapshot. Nobody
    sees whether a process of another PID namespace lives, as of a container that was started again: its files go after a day."""
    home = jar.ledger_home.path
    of_home = r"(?:ledger\.db|[a-z]+(?:\.[0-9a-f]{8})?)" + TEMPORARY + ".*"
    snapshots = re.escape(os.path.basename(jar.layout.snapshot)) + temporary_of_nodes()
    left = remove_leftovers(home, of_home) + remove_leftovers(jar.layout.ledger, snapshots + ".*")
    for entry in list_directory(home):
        with contextlib.suppress(FileNotFoundError):
            if re.fullmatch(of_home, entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY_S:
                remove_file(entry.path)
                left.append(entry.name)
    for name in left:
        log(f"removed the half-written {name}")
