"""What jobs wrote to their standard output and error: all of it, or its last lines.

Reads output files, below the jar without following a link; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from jobjar.errors import JarError, UsageError
from jobjar.jar import Jar
from jobjar.reports.jobs import open_output
from jobjar.text import printable_name

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
# Of the last lines for people: where they are looked for, and what is shown of each.
_READ_BYTES = 4096
_LONGEST_LINE = 200


def read_output(jar: Jar, path: str, tail: int | None = None) -> Iterator[bytes]:
    """The content of an output file that `find_output` named, in pieces; with `tail`, its last so many lines. Raises NoOutput,
    OSError."""
    check_tail(tail)
    with contextlib.closing(OpenOutput(jar, path)) as output:
        yield from output.read_from(0 if tail is None else output.find_tail(tail))


def check_tail(tail: int | None) -> None:
    """Raise UsageError if this is no number of lines."""
    if tail is not None and tail < 0:
        raise UsageError(reason=f"--tail: {tail} is no number of lines")


class OpenOutput:
    """An open output file. A job that runs may write to it meanwhile. Raises NoOutput, OSError."""

    def __init__(self, jar: Jar, path: str) -> None:
        self._descriptor = open_output(jar, path)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_from(self, offset: int) -> Iterator[bytes]:
        """What the file has from this byte on, in pieces."""
        while piece := os.pread(self._descriptor, _CHUNK_BYTES, offset):
            offset += len(piece)
            yield piece

    def read_piece(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from this one on; fewer at the end of the file, or where a disk gives no more at once."""
        return os.pread(self._descriptor, size, offset)

    def find_tail(self, lines: int) -> int:
        """At which byte the last so many lines begin."""
        size = end = self.size()
        if not lines:
            return size
        found = 0
        while end:
            start = max(0, end - _BLOCK_BYTES)
            block = os.pread(self._descriptor, end - start, start)
            # The newline at the very end ends the last line. Each other one begins the line after it.
            position = len(block) - (end == size and block.endswith(b"\n"))
            while (position := block.rfind(b"\n", 0, position)) >= 0:
                found += 1
                if found == lines:
                    return start + position + 1
            end = start
        return 0

    def close(self) -> None:
        os.close(self._descriptor)


def read_last_lines(jar: Jar, path: str | None, count: int) -> list[str]:
    """The last lines of an output that are not empty, for people: at most `count`, and the beginning of each. [] if there are
    none, or the file cannot be read here."""
    data = b""
    if path is not None:
        with contextlib.suppress(JarError, OSError), contextlib.closing(OpenOutput(jar, path)) as output:
            data = b"".join(output.read_from(max(0, output.size() - _READ_BYTES)))
    # A progress bar writes over its own line: what stands there in the end is what people saw.
    lines = [line.rstrip().rpartition("\r")[2] for line in data.decode("utf-8", "surrogateescape").split("\n")]
    return [printable_name(line)[:_LONGEST_LINE] for line in lines if line.strip()][-count:]
