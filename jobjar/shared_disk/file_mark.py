"""What a job's file is known by when it has another name: its inode, size, time of change, and a sum of its beginning.

`submitted` entries hold it. An inode comes round again when its file is removed; that all of these agree by chance does not
happen. A file that was changed has another mark: then nobody guesses.
"""

from __future__ import annotations

import binascii
import os

from jobjar.shared_disk.files import read_file

# So much of a file goes into its sum.
MARKED_BYTES = 65536


def make_mark(status: os.stat_result, beginning: bytes) -> str:
    """The mark of a file with this status and this beginning."""
    return f"{mark_prefix(status)}{sum_beginning(beginning)}"


def mark_prefix(status: os.stat_result) -> str:
    """What is known of a mark without reading the file."""
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}."


def sum_beginning(beginning: bytes) -> str:
    return f"{binascii.crc32(beginning[:MARKED_BYTES]):08x}"


def read_mark(path: str, status: os.stat_result) -> str:
    """The mark of the file at `path`, which has this status. Raises OSError."""
    return make_mark(status, read_file(path, size=MARKED_BYTES))
