"""What a worker says: lines with the time before them, to standard error and its worker.log.

On a network disk each line would cost an operation, and each new process one that waits for it (a job's process closes what
it inherits, and that sends what was written): there what is said of each job is put off, for a second at most.
"""

from __future__ import annotations

import contextlib
import os
import time

from jobjar.text import printable

_PUT_OFF_S = 1.0


class WorkerLog:
    """`write` writes at once, with all that was put off before; `write_later` may put off."""

    def __init__(self, puts_off: bool) -> None:
        self.descriptors = [2]
        self._puts_off = puts_off
        self._waiting: list[str] = []
        self._since = 0.0

    def write(self, line: str) -> None:
        self._add(line)
        self.flush()

    def write_later(self, line: str) -> None:
        """Write what nobody waits for."""
        if not self._waiting:
            self._since = time.monotonic()
        self._add(line)
        if not self._puts_off or time.monotonic() - self._since > _PUT_OFF_S:
            self.flush()

    def _add(self, line: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._waiting.append(f"{now} {line if line.isprintable() else printable(line)}\n")

    def flush(self) -> None:
        """Write what was put off."""
        if self._waiting:
            text = "".join(self._waiting).encode("utf-8", "replace")
            self._waiting.clear()
            for descriptor in self.descriptors:
                with contextlib.suppress(OSError):  # a full disk or a closed terminal must not stop a worker
                    os.write(descriptor, text)
