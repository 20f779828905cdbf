"""Permissions in a jar: what others could write to, what this user cannot move or run. Reads; writes nothing."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
from collections.abc import Iterator

from jobjar.access.access import may_move, this_user
from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.shared_disk.files import is_job_file
from jobjar.shared_disk.listing import list_directories, list_directory, list_everything
from jobjar.shared_disk.mounts import find_mount
from jobjar.text import printable_name

GROUP = "permissions"
# Do not read a directory of a million jobs to its end.
MOST_JOBS_LOOKED_AT = 20_000


def look_at_permissions(jar: Jar) -> Iterator[Finding]:
    yield look_at_others(jar)
    yield look_at_access(jar)
    if jar.is_for_group:
        yield look_at_group(jar)
    yield look_at_umask(jar)
    yield look_at_waiting_jobs(jar)
    yield look_at_one_disk(jar)


def categories_of(jar: Jar) -> list[str]:
    """The category directories in unclaimed/."""
    return [jar.layout.category_directory(name) for name in sorted(list_directories(jar.layout.unclaimed))]


def look_at_others(jar: Jar) -> Finding:
    """What everybody can write to. Workers run the files that anybody puts there."""
    layout = jar.layout
    paths = [*layout.directories(), *categories_of(jar), layout.config_file]
    paths += [entry.path for entry in list_everything(layout.bin)]
    found = [path for path in paths if _mode(path) & 0o002]
    if found:
        meaning = "whoever puts a file there has it run as the workers' user; workers refuse to start"
        return Finding(
            GROUP, "writable by others", DANGER, _some(found), meaning, f"chmod o-w {''.join(_for_command(found))}"
        )
    return Finding(GROUP, "writable by others", FINE, "nothing")


def look_at_access(jar: Jar) -> Finding:
    """Whether this user may move jobs."""
    layout = jar.layout
    needed = [layout.limbo, layout.unclaimed, *categories_of(jar), layout.claimed, layout.completed, layout.workers]
    refused = [path for path in [*needed, layout.journals] if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]
    if refused:
        meaning = "programs of this user cannot submit, claim or complete"
        advice = "run as the jar's owner, or make the jar its group's: jobjar init --group DIR"
        return Finding(GROUP, "access", DANGER, f"no right to write to {_some(refused)}", meaning, advice)
    return Finding(GROUP, "access", FINE, f"user {os.geteuid()} may move jobs")


def look_at_group(jar: Jar) -> Finding:
    """Whether the directories of a group's jar hand on the group and let it write."""
    directories = [*jar.layout.directories(), *categories_of(jar)]
    group = os.stat(jar.layout.home).st_gid
    wrong = []
    for path in directories:
        if os.path.isdir(path):
            status = os.stat(path)
            if not status.st_mode & stat.S_ISGID or status.st_mode & 0o070 != 0o070 or status.st_gid != group:
                wrong.append(path)
    if wrong:
        meaning = "what some members make there, others cannot move"
        some, more = _for_command(wrong)
        advice = f"chgrp {group} {some} && chmod g+rwxs {some}{more}"
        return Finding(GROUP, "group", WARNING, f"not the group's, or not setgid: {_some(wrong)}", meaning, advice)
    return Finding(GROUP, "group", FINE, f"group {group} may write everywhere")


def look_at_umask(jar: Jar) -> Finding:
    umask = jar.umask
    measured = f"{umask:03o} ({jar.settings.origin('JJ_UMASK')})"
    if not umask & 0o002:
        meaning = "what programs make in the jar is writable by others, and workers refuse such a jar"
        return Finding(GROUP, "umask", DANGER, measured, meaning, "set JJ_UMASK to 077, or 007 for a group's jar")
    if jar.is_for_group and umask & 0o070:
        meaning = "the jar is its group's, but what programs make in it is not"
        return Finding(GROUP, "umask", WARNING, measured, meaning, "set JJ_UMASK to 007, or leave it unset")
    return Finding(GROUP, "umask", FINE, measured)


def look_at_waiting_jobs(jar: Jar) -> Finding:
    """Waiting jobs that this user's workers could not move or run."""
    refused, seen, user = [], 0, this_user()
    directories = [jar.layout.unclaimed, *categories_of(jar)]
    entries = itertools.chain.from_iterable(map(list_directory, directories))
    for entry in itertools.islice(entries, MOST_JOBS_LOOKED_AT):
        try:
            status = entry.stat(follow_symlinks=False)
            above = os.stat(os.path.dirname(entry.path))
        except OSError:
            continue
        if entry.name.startswith(".") or not is_job_file(status):
            continue
        seen += 1
        if not may_move(status, above, user) or not os.access(entry.path, os.R_OK | os.X_OK):
            refused.append(entry.path)
    if refused:
        meaning = "workers of this user cannot take them, or would complete them as failed with status 126"
        advice = "chmod g+rx the files, take the sticky bit off the directory, or have their owner run a worker"
        return Finding(GROUP, "waiting jobs", WARNING, f"{len(refused)}: {_some(refused)}", meaning, advice)
    return Finding(GROUP, "waiting jobs", FINE, f"this user may move and run all {seen} that were looked at")


def look_at_one_disk(jar: Jar) -> Finding:
    """Whether all jars are on one mount: a claim is a rename, which crosses neither disks nor mounts."""
    layout = jar.layout
    check = "one disk"
    if not os.path.isdir(layout.workers):
        return Finding(GROUP, check, NOTE, f"{layout.workers} is not there", "the first worker makes it", "nothing")
    here = find_mount(layout.unclaimed)
    apart = []
    for path in (layout.limbo, *categories_of(jar), layout.completed, layout.workers):
        there = find_mount(path)
        other_mount = here is not None and there is not None and here.mount_id != there.mount_id
        if other_mount or os.stat(path).st_dev != os.stat(layout.unclaimed).st_dev:
            apart.append(path)
    if apart:
        meaning = "jobs move by rename, which does not cross disks or mounts: they cannot be claimed or completed"
        advice = "put them on the jar's own mount (JJ_WORKER_HOME, where it is the workers)"
        return Finding(GROUP, check, DANGER, f"not on the mount of {layout.unclaimed}: {_some(apart)}", meaning, advice)
    return Finding(GROUP, check, FINE, "jobs move from limbo to completed on one mount")


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _some(paths: list[str]) -> str:
    return name_some([printable_name(path) for path in paths])


def _for_command(paths: list[str]) -> tuple[str, str]:
    """The paths for a command line: the first five, and a comment for its end if there are more."""
    more = f"  # then `jobjar doctor` again: there are {len(paths) - 5} more" if len(paths) > 5 else ""
    return " ".join(map(shlex.quote, paths[:5])), more
