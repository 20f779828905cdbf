"""What every batch system has to do for pilots: submit a script, say what became of it, cancel it.

A system is an object with these three functions (`System`). It calls the system's own programs, each with a time-out. A pilot is
known by a name that nobody else uses, so that it is found even if the answer to its submission was lost. Writes nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

# What a system makes of a pilot. A name that it does not list is unknown to it.
WAITING, RUNNING, ENDED = "waiting", "running", "ended"
# How a pilot ended, as far as the system says it.
FINISHED, FAILED, CANCELLED = "finished", "failed", "cancelled"
TIMED_OUT, NODE_FAILED, PREEMPTED = "timed_out", "node_failed", "preempted"
# The machinery ended these, and not what they ran.
OF_THE_MACHINERY = frozenset({CANCELLED, TIMED_OUT, NODE_FAILED, PREEMPTED})
# Slurm's programs give up after ten seconds without an answer, or after a minute without their configuration.
LONGEST_CALL_S = 30.0
_WORDS_KEPT = 500


class NoAnswer(Exception):
    """A system's program could not be asked, or its answer says nothing. This is not the answer "no"."""


class NotSubmitted(Exception):
    """A submission ended without a pilot's id. It may have been taken all the same."""


class Request(NamedTuple):
    """A pilot to submit. `script_path` has the script; `output_path` is for what it writes. 0 of cores, memory (MiB) or GPUs
    means that nothing is asked for."""

    name: str
    script_path: str
    output_path: str
    time_s: float
    warning_s: float
    cores: int
    memory_mib: int
    gpus: int
    options: tuple[str, ...]


class Known(NamedTuple):
    """A pilot to ask about. `id` is empty if the answer to its submission was lost."""

    name: str
    id: str


class Seen(NamedTuple):
    """What a system says of a pilot: `state` in our words and `word` in its own, why it waits, and the node that it is on.
    `end` is how it ended. `never`: it waits for what does not come by waiting."""

    id: str
    state: str
    word: str
    reason: str = ""
    node: str = ""
    end: str = ""
    never: bool = False


class System(Protocol):
    """A batch system. `cancels_softly`: `cancel` has a running pilot's worker end by itself."""

    name: str
    submits_with: str

    def refused_options(self, options: Sequence[str]) -> list[str]:
        """Which of a person's options a pilot cannot have."""

    def submit(self, request: Request) -> str:
        """Submit a pilot; return its id. Raises NotSubmitted, NoAnswer."""

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        """Say what is known of pilots, by name. Those that are left out are unknown to it. Raises NoAnswer."""

    def cancel(self, id: str, is_running: bool) -> None:
        """Have a pilot end, or not begin. Raises NoAnswer."""


class Answer(NamedTuple):
    """What a program wrote, and its exit status."""

    status: int
    output: str
    errors: str

    @property
    def words(self) -> str:
        """What it said to people, on one line."""
        return shorten(self.errors) or shorten(self.output) or f"exit status {self.status}"


def ask(
    words: Sequence[str],
    text: str = "",
    leave_out: Callable[[str], bool] = lambda name: False,
    variables: Mapping[str, str] | None = None,
    longest_s: float = LONGEST_CALL_S,
) -> Answer:
    """Run a program of a system to its end, for `longest_s` at most. `leave_out` says which of this process's variables it does
    not get, `variables` which it gets beside them. Raises NoAnswer."""
    environment = {name: value for name, value in os.environ.items() if not leave_out(name)}
    environment |= variables or {}
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(text.encode(), longest_s)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise NoAnswer(f"{words[0]} did not answer within {longest_s:g} s") from error
    except FileNotFoundError as error:
        raise NoAnswer(f"there is no program {words[0]} on this node") from error
    except OSError as error:
        raise NoAnswer(f"{words[0]}: {error.strerror}") from error
    return Answer(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def shorten(text: str) -> str:
    """A program's words on one line, of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _WORDS_KEPT else f"{line[:_WORDS_KEPT]}…"


def find_options(options: Sequence[str], short: str, long: Sequence[str] = ()) -> list[str]:
    """Which of `options` begin with one of these letters, or are one of these long options."""
    found = []
    for option in options:
        word = option.partition("=")[0]
        if word in long or (re.match(r"-[A-Za-z]", option) and len(word) > 1 and word[1] in short):
            found.append(option)
    return found


def quote(words: Sequence[str]) -> str:
    """Words as a shell takes them."""
    return " ".join(map(shlex.quote, words))
