"""A `jobjar output -f` that runs beside a test."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.rig import BIN, PATIENCE_S, Rig, wait_until

# Has a job wait for a file that the test makes: PROMPT.format(directory, name).
PROMPT = "until test -e {0}/{1}; do sleep 0.02; done"


class Follower:
    """A `jobjar output -f` that runs. What it prints goes to files, which may be read at any time."""

    def __init__(self, rig: Rig, place: Path, *words: str) -> None:
        self._out, self._errors = place / "followed", place / "said"
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [BIN / "jobjar", "output", "-f", *words],
                env=rig.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.out + self.said, f"{text!r} from `jobjar output -f`")

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)
