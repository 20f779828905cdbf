"""A compressed journal, read at any offset of its uncompressed bytes. Reads the one file that it is given; writes nothing."""

from __future__ import annotations

import errno
import os
from gzip import GzipFile

from jobjar.shared_disk.regular import UnfitFile


class PackedFile:
    """What a descriptor, which stays its owner's, has compressed. Raises UnfitFile where it is damaged, OSError."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._path = path
        self._unpacked = GzipFile(fileobj=os.fdopen(descriptor, "rb", closefd=False), mode="rb")

    def read_at(self, wanted: int, position: int) -> bytes:
        """Up to `wanted` bytes."""
        self._seek(position, os.SEEK_SET)
        try:
            return self._unpacked.read(wanted)
        except Exception as error:
            raise self._name_damage(error) from error

    def size(self) -> int:
        """How many bytes there are."""
        return self._seek(0, os.SEEK_END)

    def _seek(self, position: int, whence: int) -> int:
        try:
            return self._unpacked.seek(position, whence)  # which reads all that is before it
        except Exception as error:
            raise self._name_damage(error) from error

    def _name_damage(self, error: Exception) -> Exception:
        """What gzip raises for a file that is none: errors of four kinds."""
        is_of_the_disk = isinstance(error, OSError) and error.errno is not None
        return error if is_of_the_disk else UnfitFile(errno.EINVAL, f"it is damaged: {error}", self._path)

    def close(self) -> None:
        self._unpacked.close()
