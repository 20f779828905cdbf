"""The files of calls and of their results: records with a length and a checksum, one after the other.

A record is a kind, a number, the length of its data, a checksum, and the data. Whoever appends a record may be killed midway: a
record that is not whole, or whose checksum is wrong, is as good as not there, and so is what follows it. This module is a part
of what runs calls (run.py), so it imports little.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_HEAD = struct.Struct("<cQQI")
# The kinds of records in a file of calls: what all calls share, a function, a call with its function's number and arguments.
SHARED, FUNCTION, CALL = b"P", b"F", b"C"
# The kinds in a file of results: what a call returned or raised; the first call that its runner gives back; that no call could
# be run, since the initializer failed.
RETURNED, RAISED, GIVEN_BACK, NOT_INITIALIZED = b"R", b"E", b"G", b"I"
# What stands before the data of a call: the number of its function; before that of a result: how long it took, in seconds.
FUNCTION_NUMBER, DURATION = struct.Struct("<I"), struct.Struct("<d")


class Record(NamedTuple):
    """A record: `number` is that of a call within its group, or of a function."""

    kind: bytes
    number: int
    data: bytes


def encode(kind: bytes, number: int, *parts: bytes) -> bytes:
    """The bytes of a record. Its data are the `parts`."""
    checksum = zlib.crc32(b"%c%d" % (kind, number))
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((_HEAD.pack(kind, number, sum(map(len, parts)), checksum), *parts))


def read_records(file: BinaryIO, size: int) -> Iterator[tuple[Record, int]]:
    """Yield the whole records from where `file` is, each with the offset after it, up to the first that is not whole. `size` is
    that of the file: a large record that is being written is not read again and again."""
    offset = file.tell()
    while offset + _HEAD.size <= size:
        kind, number, length, checksum = _HEAD.unpack(file.read(_HEAD.size))
        if offset + _HEAD.size + length > size:
            return
        data = file.read(length)
        if zlib.crc32(data, zlib.crc32(b"%c%d" % (kind, number))) != checksum:
            return
        offset += _HEAD.size + length
        yield Record(kind, number, data), offset
