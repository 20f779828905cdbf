"""What is said of a job in a sentence that a person can act on. Reads the ledger and outputs; writes nothing."""

from __future__ import annotations

import signal


def tell_end(outcome: str | None, exit_status: int | None, by_signal: int | None) -> str:
    """How a job or an attempt ended: `failed, exit status 3`, `killed, signal TERM`."""
    parts = [(outcome or "ended, and nothing tells how").replace("_", " ")]
    if by_signal is not None:
        parts.append(f"signal {name_signal(by_signal)}")
    elif exit_status:
        parts.append(f"exit status {exit_status}")
    return ", ".join(parts)


def name_signal(number: int) -> str:
    """The name of a signal without `SIG`; its number if it has none."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
