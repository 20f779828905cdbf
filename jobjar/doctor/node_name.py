"""Whether the name of this node is one to rely on: a name of many, or one that changes from day to day (DHCP).

Who starts workers notes the node's name in the file `names` of its ledger home, which this host keeps for itself, if the name has
changed: one line a name, with the time. So a change is seen over a reboot too. A kill leaves the file as it was. With JJ_NODE, or
in a container, whose home may be that of others too, nothing is noted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from jobjar.doctor.findings import NOTE, WARNING, Finding
from jobjar.host import NAMES_OF_MANY, node_name
from jobjar.jar import Jar
from jobjar.liveness import is_first_namespace
from jobjar.shared_disk.files import read_file, replace_file
from jobjar.shared_disk.regular import UnfitFile

_MOST = 10
_SETS = "set JJ_NODE to a name of this node's own, in the environment of whatever starts workers (also cron's)"


class Named(NamedTuple):
    """A name that this node had, and since when: UTC epoch seconds."""

    name: str
    since: float


def note_name(jar: Jar) -> str | None:
    """Note this node's name, for a program that starts workers. Returns what to tell if it is no name to rely on, else None."""
    name = node_name()
    if name in NAMES_OF_MANY:
        return f"this node is called {name}, as others are: their workers and its own cannot be told apart by name; {_SETS}"
    if not _is_noted():
        return None
    names = _read(jar)
    if names and names[-1].name == name:
        return None
    lines = [f"{one.name} {one.since:.0f}\n" for one in [*names, Named(name, time.time())][-_MOST:]]
    with contextlib.suppress(OSError):  # it is told again next time
        replace_file(_path(jar), "".join(lines).encode())
    if not names:
        return None
    return f"this node is called {name}, and was called {names[-1].name} before; if its name comes and goes, {_SETS}"


def look_at_changes(jar: Jar) -> Iterator[Finding]:
    """Which names this node had."""
    names = _read(jar) if _is_noted() else []
    if len(names) < 2:
        return
    shown = ", ".join(f"{one.name} since {time.strftime('%Y-%m-%d', time.localtime(one.since))}" for one in names[-3:])
    meaning = "after a reboot under another name, nobody knows of its workers whether they are dead"
    verdict = WARNING if len(names) > 2 else NOTE
    yield Finding("node", "changes of its name", verdict, shown, meaning, _SETS)


def _is_noted() -> bool:
    return not os.environ.get("JJ_NODE") and is_first_namespace()


def _path(jar: Jar) -> str:
    return f"{jar.ledger_home.path}/names"


def _read(jar: Jar) -> list[Named]:
    try:
        words = [line.split() for line in read_file(_path(jar)).decode(errors="replace").splitlines()]
    except (OSError, UnfitFile):
        return []
    return [
        Named(line[0], float(line[1])) for line in words if len(line) == 2 and line[1].isdecimal() and len(line[1]) < 12
    ]
