"""What wakes a sleeper: signals, and not the children that ended while nobody waited."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from jobjar.processes.wake import SignalFlags


@pytest.fixture
def flags() -> Iterator[SignalFlags]:
    made = SignalFlags()
    made.take([signal.SIGUSR2])
    yield made
    made.close()


def test_children_that_ended_between_two_signals_are_taken_out_and_the_signals_stay(flags: SignalFlags) -> None:
    usr2, chld = bytes([signal.SIGUSR2]), bytes([signal.SIGCHLD])
    flags.hear_children(True)
    os.write(flags._writer, chld + usr2 + chld + chld + usr2 + chld)
    flags.hear_children(False)
    assert os.read(flags.descriptors()[0], 4096) == usr2 + usr2
    os.write(flags._writer, chld + chld)
    assert not flags.drain()
    os.write(flags._writer, chld + usr2 + chld)
    assert flags.drain()
