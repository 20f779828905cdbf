"""A worker's log: lines with the time before them, on standard error and in its worker.log.

On a network disk each line would cost an operation, and each new job's process would wait for it: it closes the files that it
inherits, and a close sends what was written. So there the lines about each job are put off, for about a second at most.
"""

from __future__ import annotations

import contextlib
import os
import time

from jobjar.text import printable

_PUT_OFF_S = 1.0


class WorkerLog:
    """`write` writes at once, after all lines that were put off. `write_later` may put a line off."""

    def __init__(self, puts_off: bool) -> None:
        self.descriptors = [2]
        self._puts_off = puts_off
        self._waiting: list[str] = []
        self._since = 0.0

    def write(self, line: str) -> None:
        self._add(line)
        self.flush()

    def write_later(self, line: str) -> None:
        """Write a line that nobody waits for."""
        if not self._waiting:
            self._since = time.monotonic()
        self._add(line)
        if not self._puts_off or time.monotonic() - self._since > _PUT_OFF_S:
            self.flush()

    def _add(self, line: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._waiting.append(f"{now} {line if line.isprintable() else printable(line)}\n")

    def flush(self) -> None:
        """Write the lines that were put off."""
        if self._waiting:
            text = "".join(self._waiting).encode("utf-8", "replace")
            self._waiting.clear()
            for descriptor in self.descriptors:
                with contextlib.suppress(OSError):  # a full disk or a closed terminal must not stop a worker
                    os.write(descriptor, text)
