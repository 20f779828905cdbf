"""Publish the output files of described jobs, and keep in the jar what has to outlive an attempt's worker.

    underway/<uid>/<attempt>.<worker_uid>/
      state.json    the phase that the attempt has reached (poll or store), and all that is needed to go on from it
      work/         the working directory of a job that is polled
      output/       the published files, to be stored

Publishing writes state.json, which is the commit, and then renames output/. A crash before the first leaves nothing published. A
crash between the two leaves the files where they were. Those of a polled job are in the jar, and the next attempt finishes the
rename. Those of another job vanish with its worker's scratch directory; a state without its files counts for nothing, and the
job begins anew.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from jobjar.errors import BadOutput
from jobjar.fetching.copying import BetweenPieces, is_temporary_name, measure, nothing, open_file
from jobjar.grouped import name_some
from jobjar.job_file.description import parse_output_path
from jobjar.layout import Layout
from jobjar.shared_disk.contents import STATE, parse_document
from jobjar.shared_disk.files import (
    is_directory,
    list_names,
    look,
    look_afresh,
    make_directory,
    read_file,
    remove_file,
    rename,
    replace_file,
    sync_directory,
)
from jobjar.shared_disk.mounts import mounts_below
from jobjar.shared_disk.patience import is_transient, patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over
from jobjar.shared_disk.trees import Kept, remove_tree

OUTPUT = "output"
POLL, STORE = "poll", "store"
_STATE_FILE = "state.json"
_ATTEMPT = re.compile(r"([0-9]{1,9})\.([0-9A-Za-z]+)")
_SHOWN = 5
_LONGEST_SHOWN = 200
# Names that an NFS client gives to files that were removed while a process had them open.
_REMOVED = re.compile(r"\.nfs[0-9a-f]{8,}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class OutputFile(NamedTuple):
    """A file below output/: its path relative to that, its size in bytes, its md5 in hexadecimal digits."""

    name: str
    size: int
    md5: str


class State(NamedTuple):
    """The state that an attempt has reached. `attempt` and `worker_uid` are those in its directory's name, also when a later
    attempt goes on with it. Times are in seconds; `files` are the published files."""

    phase: str
    job: str
    name: str
    attempt: int
    worker: str
    worker_uid: str
    category: str
    outcome: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    wall_time_s: float | None = None
    user_cpu_s: float | None = None
    system_cpu_s: float | None = None
    max_rss_kib: int | None = None
    message: str | None = None
    storage_class: str | None = None
    output_path: str = ""
    files: tuple[OutputFile, ...] = ()


_TEXTS = ("phase", "job", "name", "worker", "worker_uid", "category", "output_path")
_OPTIONAL_TEXTS = ("outcome", "message", "storage_class")
_OPTIONAL_NUMBERS = ("exit_status", "signal", "wall_time_s", "user_cpu_s", "system_cpu_s", "max_rss_kib")


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


def attempt_directory(layout: Layout, uid: str, attempt: int, worker_uid: str) -> str:
    """The directory below underway/ for everything of an attempt that has to outlive its worker."""
    return f"{layout.underway}/{uid}/{attempt}.{worker_uid}"


def state_directory(layout: Layout, state: State) -> str:
    """The directory that a state was read from."""
    return attempt_directory(layout, state.job, state.attempt, state.worker_uid)


def work_directory(directory: str) -> str:
    """The working directory of a job that is polled, in its attempt's directory."""
    return f"{directory}/work"


def make_attempt_directory(directory: str) -> None:
    """Make an attempt's directory, and those above it where they are missing. Raises OSError."""
    job_directory = os.path.dirname(directory)
    for path in (os.path.dirname(job_directory), job_directory, directory):
        with contextlib.suppress(FileExistsError):
            make_directory(path)
            sync_directory(os.path.dirname(path))


def write_state(directory: str, state: State) -> None:
    """Write a state whole and durably; its directory has to be there. Raises OSError."""
    fields = {**state._asdict(), "files": [file._asdict() for file in state.files]}
    data = json.dumps(fields, indent=1).encode() + b"\n"
    path = f"{directory}/{_STATE_FILE}"
    _as_owner((directory,), lambda: replace_file(path, data, 0o660))
    sync_directory(directory)


def forget_state(directory: str) -> None:
    """Remove an attempt's state, so that no attempt goes on with it. Its other files stay. Raises OSError."""
    path = f"{directory}/{_STATE_FILE}"
    if look(path) is not None:
        _as_owner((directory,), lambda: remove_file(path))
        sync_directory(directory)


def find_state(layout: Layout, uid: str) -> State | None:
    """The state of the job's highest attempt that has one; None where none has. A state that is malformed, or whose published
    files are missing, does not count. Raises OSError where the disk cannot answer, because taking that for no state would run the
    job twice."""
    path = f"{layout.underway}/{uid}"
    if look(path) is None:
        return None
    found = [state for attempt in _list_attempts(path) if (state := _read_state(path, attempt)) is not None]
    # Two attempts have the same number where a node claimed the job before it read of another node's attempt.
    return max(found, key=lambda state: (state.attempt, state.phase == STORE, state.worker_uid), default=None)


def _list_attempts(path: str) -> list[str]:
    """The names of a job's attempt directories, lowest first, read anew from the disk's server."""
    look_afresh(path)
    try:
        names = list_names(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        pass_over(path, "its path has a loop of links")
        return []
    return sorted(filter(_ATTEMPT.fullmatch, names), key=lambda name: int(name.partition(".")[0]))


def _read_state(job_directory: str, name: str) -> State | None:
    directory = f"{job_directory}/{name}"
    look_afresh(directory)
    try:
        data = read_file(f"{directory}/{_STATE_FILE}")
    except UnfitFile as error:
        pass_over(f"{directory}/{_STATE_FILE}", error.strerror)
        return None
    except OSError as error:
        if is_transient(error) or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            raise
        return None
    state = parse_state(data)
    if state is None or (state.job, f"{state.attempt}.{state.worker_uid}") != (os.path.basename(job_directory), name):
        return None
    if state.phase == STORE and state.files and not any(map(is_directory, _places_of_output(directory))):
        return None
    return state


def parse_state(data: bytes) -> State | None:
    """Parse the content of a state.json; None where it is no valid state."""
    try:
        said = parse_document(data, STATE)
        files = tuple(OutputFile(file["name"], file["size"], file["md5"]) for file in said["files"])
        state = State(**{**{name: said[name] for name in State._fields if name in said}, "files": files})
    except (ValueError, KeyError, TypeError):
        return None
    return state if _is_sound(state) else None


def _is_sound(state: State) -> bool:
    def has(names: tuple[str, ...], *kinds: type) -> bool:
        values: list[Any] = [getattr(state, name) for name in names]
        return all(isinstance(value, kinds) and not isinstance(value, bool) for value in values)

    return (
        has(_TEXTS, str)
        and has(_OPTIONAL_TEXTS, str, type(None))
        and has(_OPTIONAL_NUMBERS, int, float, type(None))
        and has(("attempt",), int)
        and state.phase in (POLL, STORE)
        and all(map(_is_sound_file, state.files))
    )


def _is_sound_file(file: OutputFile) -> bool:
    if not (isinstance(file.name, str) and type(file.size) is int and isinstance(file.md5, str)):
        return False
    try:
        return parse_output_path(file.name) == file.name != "" and re.fullmatch(r"[0-9a-f]{32}", file.md5) is not None
    except ValueError:
        return False


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


def published_directory(directory: str) -> str:
    """The path of an attempt's published files, in its directory."""
    return f"{directory}/{OUTPUT}"


def finish_publishing(directory: str) -> str:
    """Finish a publication that a crash cut short between state.json and the rename. Returns the path of the published files.
    Every attempt that goes on with a state in the phase store has to call it. Raises OSError."""
    target, source = _places_of_output(directory)
    if look(source) is not None:
        _move_output(source, target)
    return target


def _places_of_output(directory: str) -> tuple[str, str]:
    """The path of an attempt's published files, and the path where those of a polled job still are after a crash."""
    return published_directory(directory), f"{work_directory(directory)}/{OUTPUT}"


def _move_output(source: str, target: str) -> None:
    if look(source) is not None and look(target) is not None:
        remove_tree(target)  # left by a publication that this one replaces
    above = os.path.dirname(source)
    # A directory that gets another parent has to be writable itself.
    _as_owner((above, source, os.path.dirname(target)), lambda: rename(source, target))
    for path in (target, os.path.dirname(target), above):
        sync_directory(path)


def _as_owner(directories: tuple[str, ...], action: Any) -> None:
    """Do an action; on a PermissionError make the directories writable and do it again: the job may have made them unwritable."""
    try:
        action()
    except PermissionError:
        for path in directories:
            with contextlib.suppress(OSError):  # the second try reports it
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o700)
        action()


def remove_underway(layout: Layout, uid: str) -> list[Kept]:
    """Remove everything that a job's attempts kept below underway/. After a kill midway, the next call finishes it. The highest
    attempt's state goes last, so that a lower one is never taken for it. Returns the files that cannot be removed. Raises OSError
    where the disk refuses to remove a state."""
    path = f"{layout.underway}/{uid}"
    status = look(path)
    if status is None:
        return []
    if stat.S_ISDIR(status.st_mode):
        for name in _list_attempts(path):
            forget_state(f"{path}/{name}")
    return remove_tree(path)
