"""Publish the output files of described jobs: move them from an attempt's working directory to where they outlive its worker.

Publishing writes state.json (publishing/underway.py), which is the commit, and then renames output/. A crash before the first
leaves nothing published. A crash between the two leaves the files where they were. Those of a polled job are in the jar, and the
next attempt finishes the rename. Those of another job vanish with its worker's scratch directory; a state without its files
counts for nothing, and the job begins anew.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator

from jobjar.errors import BadOutput
from jobjar.fetching.copying import BetweenPieces, is_temporary_name, measure, nothing, open_file
from jobjar.grouped import name_some
from jobjar.publishing.underway import (
    OUTPUT,
    STORE,
    OutputFile,
    State,
    as_owner,
    make_attempt_directory,
    places_of_output,
    published_directory,
    write_state,
)
from jobjar.shared_disk.files import (
    look,
    rename,
    sync_directory,
)
from jobjar.shared_disk.mounts import mounts_below
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.trees import remove_tree

_SHOWN = 5
_LONGEST_SHOWN = 200
# Names that an NFS client gives to files that were removed while a process had them open.
_REMOVED = re.compile(r"\.nfs[0-9a-f]{8,}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def list_outputs(directory: str, between_pieces: BetweenPieces = nothing) -> list[OutputFile]:
    """The regular files at any depth below a directory, sorted by name; none where there is no such directory.
    `between_pieces` is called between pieces of files.

    Raises BadOutput, which names anything that is neither a regular file nor a directory, has a name that no list of files can
    hold, or cannot be read. Raises OSError where the disk refuses.
    """
    status = look(directory)
    if status is None:
        return []
    if not stat.S_ISDIR(status.st_mode):
        raise BadOutput(directory=directory, reason=f"it is {_kind(status)} itself, not a directory")
    problems: list[str] = []
    files = [_measure_output(directory, name, between_pieces, problems) for name in _walk(directory, problems)]
    if problems:
        raise BadOutput(directory=directory, reason=name_some(problems, _SHOWN, "; "))
    return sorted(file for file in files if file is not None)


def _walk(directory: str, problems: list[str]) -> Iterator[str]:
    """The names of all regular files below a directory. Anything else is added to `problems`."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        for entry in _list_entries(directory, prefix, problems):
            name = f"{prefix}{entry.name}"
            try:
                status = patiently(lambda entry=entry: entry.stat(follow_symlinks=False), entry.path)  # type: ignore[misc]
            except OSError as error:
                problems.append(f"{_shorten(name)} {_explain_unreadable(error)}")
                continue
            if _REMOVED.fullmatch(entry.name):
                continue
            oddity = find_oddity(entry.name)
            if oddity:
                problems.append(f"{name!a} {oddity}")
            elif stat.S_ISDIR(status.st_mode):
                waiting.append(f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                yield name
            else:
                problems.append(f"{name!r} is {_kind(status)}")


def _list_entries(directory: str, prefix: str, problems: list[str]) -> list[os.DirEntry[str]]:
    path = f"{directory}/{prefix}"
    try:
        return patiently(lambda: list(os.scandir(path)), path)
    except OSError as error:
        problems.append(f"{_shorten(prefix)} {_explain_unreadable(error)}")
        return []


def _explain_unreadable(error: OSError) -> str:
    """The problem of a file that cannot be read, where another try would not help. Else raises the error again."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
        raise error
    return "may not be read" if error.errno != errno.ENAMETOOLONG else "is at a path that is too long"


def _shorten(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…")


def find_oddity(name: str) -> str | None:
    """Why a file with this name (without directories) is not stored; None where it is."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if _CONTROL.search(name):
        return "has a line end or control character in its name"
    return "has a name that only half copies have" if is_temporary_name(name) else None


def _measure_output(directory: str, name: str, between_pieces: BetweenPieces, problems: list[str]) -> OutputFile | None:
    path = f"{directory}/{name}"
    try:
        descriptor = open_file(path)
    except OSError as error:
        problems.append(f"{_shorten(name)} {_explain_unreadable(error)}")
        return None
    try:
        return OutputFile(name, *measure(descriptor, between_pieces))
    finally:
        os.close(descriptor)


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def publish(directory: str, working_directory: str, state: State, between_pieces: BetweenPieces = nothing) -> State:
    """Publish the files in output/ of an attempt's working directory. Returns the state with its files, as it was written.

    `directory` is the attempt's own below underway/, made where missing. `state` lacks only the files. After the return, the
    published files and the state outlive a crash of the node. After an OSError nothing is lost, and it may be called again.
    Raises BadOutput (nothing is published, nothing was moved), OSError.
    """
    source, target = f"{working_directory}/{OUTPUT}", published_directory(directory)
    _check_mounts(working_directory)
    is_moved = look(source) is None and look(target) is not None
    files = list_outputs(target if is_moved else source, between_pieces)
    published = state._replace(phase=STORE, files=tuple(files))
    make_attempt_directory(directory)
    write_state(directory, published)  # COMMIT: from here it is published, if it has no files or they are in the jar
    if files and not is_moved:
        _move_output(source, target)
    return published


def _check_mounts(working_directory: str) -> None:
    """Raise BadOutput where something is mounted in output/, or over the working directory: it cannot be moved, or is not the
    job's. Called before anything else looks at the files, because that would wait for a mount whose server is gone."""
    points = [
        point for point in mounts_below(working_directory) if point in (".", OUTPUT) or point.startswith(f"{OUTPUT}/")
    ]
    if points:
        shown = name_some([_shorten(point) for point in points], _SHOWN)
        reason = f"something is mounted there ({shown}), which the job has to unmount before it ends"
        raise BadOutput(directory=working_directory, reason=reason)


def finish_publishing(directory: str) -> str:
    """Finish a publication that a crash cut short between state.json and the rename. Returns the path of the published files.
    Every attempt that goes on with a state in the phase store has to call it. Raises OSError."""
    target, source = places_of_output(directory)
    if look(source) is not None:
        _move_output(source, target)
    return target


def _move_output(source: str, target: str) -> None:
    if look(source) is not None and look(target) is not None:
        remove_tree(target)  # left by a publication that this one replaces
    above = os.path.dirname(source)
    # A directory that gets another parent has to be writable itself.
    as_owner((above, source, os.path.dirname(target)), lambda: rename(source, target))
    for path in (target, os.path.dirname(target), above):
        sync_directory(path)
