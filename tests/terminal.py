"""A program whose standard error is a terminal, while a test looks at that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import termios

from tests.rig import BIN, PATIENCE_S, Rig, wait_until


class OnTerminal:
    """A program that runs with a terminal as its standard error. Its standard output, which has to be short, goes to a pipe."""

    def __init__(self, rig: Rig, program: str, *words: str, columns: int = 100, **changes: str) -> None:
        self._ours, its = os.openpty()
        os.set_blocking(self._ours, False)
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [BIN / program, *words],
            env={**rig.environment, "TERM": "xterm", **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        self._data = b""

    def read(self) -> str:
        """What the terminal has got until now."""
        with contextlib.suppress(OSError):  # nothing new, or nobody has the terminal any more
            while data := os.read(self._ours, 65536):
                self._data += data
        return self._data.decode()

    def wait_for(self, *texts: str) -> None:
        """Wait until the terminal has got all of these."""
        wait_until(lambda: all(text in self.read() for text in texts), f"{texts} on the terminal")

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit status and the last line."""
        wait_until(lambda: self.read() is not None and self.process.poll() is not None, "its end", PATIENCE_S)
        lines = self.read().replace("\r\n", "\n").removesuffix("\n").split("\n")
        os.close(self._ours)
        self._ours = -1
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode, lines[-1].rpartition("\r")[2]
