"""What the jar keeps of a described job's attempt that has to outlive its worker: how far the job is, and its files.

    underway/<uid>/<attempt>.<worker_uid>/
      state.json    the phase that the attempt has reached (poll or store), and all that is needed to go on from it
      work/         the working directory of a job that is polled
      output/       the published files, to be stored

state.json is written whole, by rename. A state that is malformed counts as none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from typing import Any, NamedTuple

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
    replace_file,
    sync_directory,
)
from jobjar.shared_disk.patience import is_transient
from jobjar.shared_disk.regular import UnfitFile, pass_over
from jobjar.shared_disk.trees import Kept, remove_tree

OUTPUT = "output"
POLL, STORE = "poll", "store"
_STATE_FILE = "state.json"


_ATTEMPT = re.compile(r"([0-9]{1,9})\.([0-9A-Za-z]+)")


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


def attempt_directory(layout: Layout, uid: str, attempt: int, worker_uid: str) -> str:
    """The directory below underway/ for everything of an attempt that has to outlive its worker."""
    return f"{layout.underway}/{uid}/{attempt}.{worker_uid}"


def state_directory(layout: Layout, state: State) -> str:
    """The directory that a state was read from."""
    return attempt_directory(layout, state.job, state.attempt, state.worker_uid)


def work_directory(directory: str) -> str:
    """The working directory of a job that is polled, in its attempt's directory."""
    return f"{directory}/work"


def published_directory(directory: str) -> str:
    """The path of an attempt's published files, in its directory."""
    return f"{directory}/{OUTPUT}"


def places_of_output(directory: str) -> tuple[str, str]:
    """The path of an attempt's published files, and the path where those of a polled job still are after a crash."""
    return published_directory(directory), f"{work_directory(directory)}/{OUTPUT}"


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
    as_owner((directory,), lambda: replace_file(path, data, 0o660))
    sync_directory(directory)


def forget_state(directory: str) -> None:
    """Remove an attempt's state, so that no attempt goes on with it. Its other files stay. Raises OSError."""
    path = f"{directory}/{_STATE_FILE}"
    if look(path) is not None:
        as_owner((directory,), lambda: remove_file(path))
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
    if state.phase == STORE and state.files and not any(map(is_directory, places_of_output(directory))):
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


def as_owner(directories: tuple[str, ...], action: Any) -> None:
    """Do an action; on a PermissionError make the directories writable and do it again: the job may have made them unwritable."""
    try:
        action()
    except PermissionError:
        for path in directories:
            with contextlib.suppress(OSError):  # the second try reports it
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o700)
        action()
