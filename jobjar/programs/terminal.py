"""What a program may do on a terminal: its width, colours, a pager. In a pipe or a file there are none of these."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping

# As `less` is for git and its like: it ends at once if all fits, lets colours through, and leaves the text on the screen.
_LESS = "FRX"
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90}


def is_terminal() -> bool:
    return sys.stdout.isatty()


def terminal_width() -> int | None:
    """The width of the terminal that standard output is, in characters; None if it is none."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def has_colours() -> bool:
    """Whether to use colours: on a terminal that knows them, if nobody said NO_COLOR (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painter(colours: Mapping[str, str]) -> Callable[[str], str] | None:
    """What gives those words of a table that have a colour theirs; None where there are no colours. A cell that a person named
    like such a word gets it too."""
    if not has_colours():
        return None
    return lambda cell: f"\x1b[{_COLOURS[colours[cell]]}m{cell}\x1b[0m" if cell in colours else cell


def print_paged(text: str) -> None:
    """Print a text; through the pager (PAGER, or less) if it is longer than the terminal. What is in it has to be printable."""
    pager = _pager()
    if not pager or not is_terminal() or text.count("\n") + 1 < shutil.get_terminal_size().lines:
        print(text)
        return
    import subprocess  # takes its time, which a short list need not wait for

    from jobjar.processes.exit_status import NOT_FOUND_STATUS, NOT_RUNNABLE_STATUS

    sys.stdout.flush()
    environment = {"LESS": _LESS, **os.environ}
    # It asks the terminal, so Ctrl-C is for it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            pager, shell=True, stdin=subprocess.PIPE, env=environment, preexec_fn=_heed_interrupts
        )
        with contextlib.suppress(BrokenPipeError):  # its user has seen enough
            process.communicate(f"{text}\n".encode("utf-8", "surrogateescape"))
        if process.wait() in (NOT_RUNNABLE_STATUS, NOT_FOUND_STATUS):  # the shell found no such program
            print(text)
    finally:
        signal.signal(signal.SIGINT, before)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _pager() -> str:
    """The pager's command line; '' for none."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return ""
    named = os.environ.get("PAGER")
    if named is not None:
        return "" if named.strip() in ("", "cat") else named
    return "less" if shutil.which("less") else ""
