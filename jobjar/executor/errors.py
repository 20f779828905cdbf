"""What becomes of calls that end neither with a result nor with an exception of their own."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from jobjar.errors import JarError


class CallLost(JarError, BrokenExecutor):
    """A call whose job ended before the call did. It is over for this call alone: the executor goes on."""

    template = "the call of {call} has no result: {reason}"


class ExecutorBroken(JarError, BrokenExecutor):
    """The executor runs nothing any more."""


class RemoteTraceback(Exception):
    """The cause of an exception that a call raised: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
