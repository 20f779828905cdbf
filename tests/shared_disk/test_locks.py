"""jobjar/shared_disk/locks.py: a lock excludes other processes, is given back, and says what the disk says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.shared_disk.locks import try_lock, try_lock_quickly, unlock, wait_for_lock

HOLDER = (
    "import os, sys; from jobjar.shared_disk.locks import {0}; assert {0}(os.open(sys.argv[1], os.O_RDWR)) in (True, None); "
    "print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("taker", [try_lock, try_lock_quickly, wait_for_lock], ids=lambda taker: str(taker.__name__))
def test_a_lock_keeps_every_other_process_out_until_its_holder_ends(
    tmp_path: Path, taker: Callable[[int], object]
) -> None:
    path = tmp_path / "lock"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(taker.__name__), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert not try_lock(descriptor) and not try_lock_quickly(descriptor)
        holder.kill()
        wait_for_lock(descriptor)
    other = os.open(path, os.O_RDWR)
    assert not try_lock(other)
    unlock(descriptor)
    assert try_lock(other)
    for opened in (descriptor, other):
        os.close(opened)


@pytest.mark.parametrize("taker", [try_lock, try_lock_quickly, wait_for_lock], ids=lambda taker: str(taker.__name__))
def test_what_the_kernel_refuses_is_its_own_error(tmp_path: Path, taker: Callable[[int], object]) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_PATH)
    with pytest.raises(OSError, match="Bad file descriptor"):
        taker(descriptor)
    os.close(descriptor)
