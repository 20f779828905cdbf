"""Read a compressed journal at any offset of its uncompressed bytes. Writes nothing."""

from __future__ import annotations

import errno
import os
from gzip import GzipFile

from jobjar.shared_disk.regular import UnfitFile


class PackedFile:
    """The uncompressed bytes of an open file. The caller closes the descriptor. Raises UnfitFile for a damaged file, OSError."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._path = path
        self._unpacked = GzipFile(fileobj=os.fdopen(descriptor, "rb", closefd=False), mode="rb")

    def read_at(self, wanted: int, position: int) -> bytes:
        """Read up to `wanted` bytes at `position`."""
        self._seek(position, os.SEEK_SET)
        try:
            return self._unpacked.read(wanted)
        except Exception as error:
            raise self._name_damage(error) from error

    def size(self) -> int:
        """Return the number of uncompressed bytes."""
        return self._seek(0, os.SEEK_END)

    def _seek(self, position: int, whence: int) -> int:
        try:
            return self._unpacked.seek(position, whence)  # it reads everything before that position
        except Exception as error:
            raise self._name_damage(error) from error

    def _name_damage(self, error: Exception) -> Exception:
        """Turn gzip's errors for a damaged file, of four kinds, into UnfitFile. Errors of the disk stay as they are."""
        is_of_the_disk = isinstance(error, OSError) and error.errno is not None
        return error if is_of_the_disk else UnfitFile(errno.EINVAL, f"it is damaged: {error}", self._path)

    def close(self) -> None:
        self._unpacked.close()
