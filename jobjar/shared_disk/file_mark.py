"""The mark that identifies a job's file under another name: inode, size, time of change, and a checksum of its beginning.

`submitted` entries contain it. The inode of a removed file is used again, but all four values never agree by chance. A changed
file has another mark, and nobody guesses which job it was.
"""

from __future__ import annotations

import binascii
import os

from jobjar.shared_disk.files import read_file

# The checksum covers this much of a file.
MARKED_BYTES = 65536


def make_mark(status: os.stat_result, beginning: bytes) -> str:
    """Make the mark of a file from its status and its beginning."""
    return f"{mark_prefix(status)}{sum_beginning(beginning)}"


def mark_prefix(status: os.stat_result) -> str:
    """The part of a mark that is known without reading the file."""
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}."


def sum_beginning(beginning: bytes) -> str:
    return f"{binascii.crc32(beginning[:MARKED_BYTES]):08x}"


def read_mark(path: str, status: os.stat_result) -> str:
    """Read the mark of the file at `path`, which has this status. Raises OSError."""
    return make_mark(status, read_file(path, size=MARKED_BYTES))
