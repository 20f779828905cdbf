"""Whether nobody may change a file or directory, not even root: `chattr +i` and `chattr +a` (statx(2)). Writes nothing."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BYTES = 256
# `stx_attributes` follows two numbers of 32 bits.
_ATTRIBUTES = slice(8, 16)
_IMMUTABLE = 0x10
_APPEND_ONLY = 0x20


def attribute_that_keeps(path: str) -> str | None:
    """The letter of the attribute that keeps a file from being renamed, or a directory's files: `i` or `a`. None: none does, or
    this system or file system cannot tell."""
    statx = _find_statx()
    if statx is None:
        return None
    import ctypes

    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW | _AT_STATX_DONT_SYNC, 0, buffer) != 0:
        return None
    attributes = int.from_bytes(buffer.raw[_ATTRIBUTES], sys.byteorder)
    return "i" if attributes & _IMMUTABLE else "a" if attributes & _APPEND_ONLY else None


@functools.cache
def _find_statx() -> Any:
    import ctypes

    return getattr(ctypes.CDLL(None), "statx", None) if sys.platform == "linux" else None
