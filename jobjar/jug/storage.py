"""DRAFT until part outputs lands: store files."""

from __future__ import annotations

import os
from typing import Any

from jobjar.disk import look, move
from jobjar.errors import JarError
from jobjar.jobname import node_name
from jobjar.jug.copies import copy, measure, open_file, temporary_name
from jobjar.jug.outputs import OutputFile, State


class StorageTaken(JarError):
    template = "{path} is there already, with other content"


def store_file(published_path: str, file: OutputFile, storage_path: str, output_path: str) -> dict[str, Any]:
    target = "/".join(part for part in (storage_path, output_path, file.name) if part)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if look(target) is None:
        temporary = f"{os.path.dirname(target)}/{temporary_name()}"
        source = open_file(published_path)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        copy(source, descriptor)
        os.fsync(descriptor)
        os.close(descriptor)
        os.close(source)
        try:
            move(temporary, target)
        except FileExistsError:
            os.unlink(temporary)
    descriptor = open_file(target)
    size, md5 = measure(descriptor)
    os.close(descriptor)
    if (size, md5) != (file.size, file.md5):
        raise StorageTaken(path=target)
    return {
        "source_name": file.name,
        "storage_name": file.name,
        "storage_hfn": f"{node_name()}:{target}",
        "storage_url": f"file://{target}",
        "storage_size": size,
        "storage_md5": md5,
    }


def run_storage_software(jar: Any, software: str, directory: str, state: State) -> list[dict[str, Any]]:
    raise OSError("not yet")
