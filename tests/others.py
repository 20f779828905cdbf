"""Other users than root, whom the tests run as: their programs, what is done as one of them, and where they can reach a jar."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jobjar
from jobjar.create import create_jar
from tests.rig import Rig

# Two users whom each Linux knows by name, and one whom none does.
NOBODY, DAEMON, UNNAMED = 65534, 1, 61_234
PROJECT = Path(jobjar.__file__).parent.parent
# Words before a program that root runs without the capabilities that let it pass over permission bits.
BY_PERMISSION_BITS = ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def by_user(user: int, *reached: Path, group: int | None = None) -> list[str]:
    """Words before a program that `user` runs, of one group alone and without any capability, in a mount namespace where
    everybody can reach this project, its Python (which may lie in somebody's home), and the paths that are `reached` too."""
    keep = Path("/mnt")  # of the namespace alone
    views = _show_to_others([Path(sys.base_prefix).resolve(), PROJECT, *reached], keep)
    gid = user if group is None else group
    drop = f'exec setpriv --reuid {user} --regid {gid} --clear-groups --bounding-set -all -- "$@"'
    script = f"mask=$(umask); umask 022; mount -t tmpfs tmpfs {keep}; {views} && umask $mask && {drop}"
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]


def _show_to_others(paths: list[Path], keep: Path) -> str:
    """Lines of sh that, in a mount namespace, let everybody reach `paths` through directories that are closed to others."""
    closed = {}
    for path in paths:
        for ancestor in reversed(path.parents):
            if not ancestor.stat().st_mode & 0o001:
                closed[path] = ancestor
                break
    lines = []
    for number, path in enumerate(closed):
        lines += [f"mkdir '{keep}/{number}'; mount --bind '{path}' '{keep}/{number}'"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs '{ancestor}'" for ancestor in sorted(set(closed.values()))]
    for number, path in enumerate(closed):
        lines += [f"mkdir -p '{path}'; mount --bind '{keep}/{number}' '{path}'; umount -l '{keep}/{number}'"]
    return "; ".join([*lines, ":"])


def do_as(user: int, group: int, action: Callable[[], object]) -> None:
    """Do something in a process of a user, who is of one group alone."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            action()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@contextlib.contextmanager
def open_place() -> Iterator[Path]:
    """A directory that everybody can reach: pytest's own are closed to others."""
    place = Path(tempfile.mkdtemp(prefix="jobjar-test-", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def create_group_jar(home: Path, group: int) -> None:
    """A jar of a group, whose owner is root."""
    create_jar(str(home), for_group=True)
    subprocess.run(["chgrp", "-R", str(group), str(home)], check=True)
    subprocess.run(["chmod", "-R", "g+rwX", str(home)], check=True)


class GroupRig(Rig):
    """A jar of a group. Its programs are run by the user `nobody`; the colleague `daemon`, who is in the group too, puts files
    there."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, make=False)
        create_group_jar(home, NOBODY)
        self.before = by_user(NOBODY)
        self.by_colleague = by_user(DAEMON, group=NOBODY)
        self.directory = "/"
        self.environment.update(JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="1", HOME="/nonexistent", TMPDIR="/tmp")

    def drop_by_colleague(self, name: str, mode: int, category: str = "", directory_mode: int = 0o2775) -> Path:
        """A job that the colleague puts there by hand, in a category that the colleague makes."""
        directory = self.home / "unclaimed" / category
        if not directory.exists():
            directory.mkdir()
            os.chown(directory, DAEMON, NOBODY)
            directory.chmod(directory_mode)
        written = self.home / "limbo" / name
        written.write_text("#!/bin/sh\n")
        os.chown(written, DAEMON, NOBODY)
        written.chmod(mode)
        return written.rename(directory / name)
