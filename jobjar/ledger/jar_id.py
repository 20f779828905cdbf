"""A jar's id, by which it differs from every other. The first process that asks makes it, once. Killed midway, a
temporary file stays."""

from __future__ import annotations

import contextlib
import os

from jobjar.access.refusals import explain_at
from jobjar.errors import CannotUseJar
from jobjar.job_file.names import new_id
from jobjar.layout import Layout
from jobjar.shared_disk.creating import common_mode, temporary_path
from jobjar.shared_disk.files import read_file, replace_file


def read_jar_id(layout: Layout) -> str:
    """The id by which this jar differs from every other, however it is mounted. An unpacked jar gets it now. Raises
    CannotUseJar."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return read_file(layout.jar_id_file).decode(errors="replace").strip()
        _make_jar_id(layout)
        return read_file(layout.jar_id_file).decode(errors="replace").strip()
    except OSError as error:
        raise CannotUseJar(
            action="read", path=layout.jar_id_file, reason=explain_at(error, layout.jar_id_file)
        ) from error


def _make_jar_id(layout: Layout) -> None:
    """Give a jar its id. If two nodes do so at once, the first one's stands."""
    temporary = temporary_path(layout.jar_id_file)
    replace_file(temporary, f"{new_id()}\n".encode(), common_mode(layout.ledger))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, layout.jar_id_file)
    finally:
        os.unlink(temporary)
