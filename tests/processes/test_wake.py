"""What wakes a sleeper: signals, and not the children that ended while nobody waited."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.processes.wake import DirectoryWatch, SignalFlags


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


def test_a_watch_counts_no_file_that_it_is_told_to_ignore(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    watch = DirectoryWatch(removals=True, ignored=("heartbeat",))
    watch.watch([str(tmp_path)])
    os.utime(heartbeat)
    assert select.select(watch.descriptors(), [], [], 10)[0] and not watch.drain()
    os.utime(heartbeat)
    (tmp_path / "STOP").touch()
    assert watch.drain()
    watch.close()
