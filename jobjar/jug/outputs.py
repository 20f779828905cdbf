"""DRAFT until part outputs lands: output files, state.json."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any, NamedTuple

from jobjar.disk import look, make_directory, read_file, remove_file, rename, replace_file
from jobjar.errors import JarError
from jobjar.jug.copies import measure, open_file
from jobjar.layout import Layout


class BadOutput(JarError):
    template = "{path}: {reason}"


class OutputFile(NamedTuple):
    name: str
    size: int
    md5: str


class State(NamedTuple):
    phase: str
    job: str
    name: str
    attempt: int
    worker: str
    worker_uid: str
    category: str
    outcome: str
    exit_status: int | None
    signal: int | None
    wall_time_s: float
    user_cpu_s: float
    system_cpu_s: float
    max_rss_kib: int
    message: str | None
    storage_class: str | None
    output_path: str
    files: tuple[OutputFile, ...]
    began_at: float = 0.0


def list_outputs(directory: str) -> list[OutputFile]:
    found = []
    for parent, directories, names in os.walk(directory):
        for name in sorted([*names, *(d for d in directories if os.path.islink(f"{parent}/{d}"))]):
            path = f"{parent}/{name}"
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise BadOutput(path=path, reason="it is a link or a device")
            descriptor = open_file(path)
            try:
                size, md5 = measure(descriptor)
            finally:
                os.close(descriptor)
            found.append(OutputFile(os.path.relpath(path, directory), size, md5))
    return sorted(found)


def attempt_directory(layout: Layout, uid: str, attempt: int, worker_uid: str) -> str:
    return f"{layout.underway}/{uid}/{attempt}.{worker_uid}"


def write_state(directory: str, state: State) -> None:
    for path in (os.path.dirname(directory), directory):
        with contextlib.suppress(FileExistsError):
            make_directory(path)
    data: dict[str, Any] = {**state._asdict(), "files": [file._asdict() for file in state.files]}
    replace_file(f"{directory}/state.json", json.dumps(data).encode())


def has_state(directory: str) -> bool:
    return look(f"{directory}/state.json") is not None


def find_state(layout: Layout, uid: str) -> State | None:
    base = f"{layout.underway}/{uid}"
    if look(base) is None:
        return None
    found = []
    for name in os.listdir(base):
        with contextlib.suppress(FileNotFoundError):
            data = json.loads(read_file(f"{base}/{name}/state.json"))
            data["files"] = tuple(OutputFile(**file) for file in data["files"])
            found.append(State(**data))
    return max(found, key=lambda state: state.attempt, default=None)


def forget_states(layout: Layout, uid: str) -> None:
    base = f"{layout.underway}/{uid}"
    for name in os.listdir(base):
        remove_file(f"{base}/{name}/state.json")


def keep_refused(directory: str) -> str:
    rename(f"{directory}/state.json", f"{directory}/refused.json")
    return directory


def is_kept(directory: str) -> bool:
    return look(f"{directory}/refused.json") is not None


def publish(output: str, directory: str, state: State) -> None:
    for path in (os.path.dirname(directory), directory):
        with contextlib.suppress(FileExistsError):
            make_directory(path)
    rename(output, f"{directory}/output")
    write_state(directory, state)


def remove_underway(layout: Layout, uid: str) -> None:
    import shutil

    shutil.rmtree(f"{layout.underway}/{uid}", ignore_errors=True)
