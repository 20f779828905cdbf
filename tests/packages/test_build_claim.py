"""Claims on what is built on a shared disk: a disk in trouble leaves none with a process that builds nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.packages.build_claim import Claim, take_claim
from jobjar.shared_disk.patience import patience
from tests.rig import wait_until


def take(place: Path) -> Claim | None:
    return take_claim(str(place), lambda: False, print)


def fail(
    monkeypatch: pytest.MonkeyPatch, call: str, times: int, is_meant: Callable[..., bool], has_happened: bool = False
) -> None:
    """Have the next calls of a function of `os` with such arguments answered with EIO, after they were done or instead."""
    real = getattr(os, call)
    left = [times]

    def do(*arguments: Any, **options: Any) -> Any:
        if left[0] and is_meant(*map(str, arguments)):
            left[0] -= 1
            if has_happened:
                real(*arguments, **options)
            raise OSError(errno.EIO, os.strerror(errno.EIO), arguments[0])
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, do)


def is_claimer(path: str, *rest: str) -> bool:
    return os.path.basename(path).startswith("claimer.")


def is_free(place: Path) -> bool:
    return not list(place.parent.glob("*.building/claimer.*"))


def test_a_claim_whose_end_the_disk_refuses_for_a_moment_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = take(tmp_path / "place")
    assert claim is not None
    with claim:
        fail(monkeypatch, "unlink", 3, is_claimer)
    assert os.listdir(tmp_path) == []


def test_a_claim_whose_end_the_disk_refuses_for_long_ends_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives, so nobody else of this node would take it away."""
    monkeypatch.setattr(patience, "limit_s", 0.0)
    claim = take(tmp_path / "place")
    assert claim is not None
    with claim:
        fail(monkeypatch, "unlink", 1, is_claimer)
    wait_until(lambda: is_free(tmp_path / "place"), "the end of the claim")
    next_one = take(tmp_path / "place")
    assert next_one is not None
    next_one.give_back()


def test_a_claim_is_had_by_whose_rename_the_disk_said_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "rename", 1, lambda path, target: target.endswith(".building"), has_happened=True)
    for call in ("lstat", "utime"):
        fail(monkeypatch, call, 2, is_claimer)
    claim = take(tmp_path / "place")
    assert claim is not None and claim.is_held()
    claim.give_back()
    assert os.listdir(tmp_path) == []


def test_a_claim_of_which_the_disk_does_not_tell_is_nobody_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "limit_s", 0.0)
    fail(monkeypatch, "rename", 1, lambda path, target: target.endswith(".building"), has_happened=True)
    for call in ("lstat", "utime"):
        fail(monkeypatch, call, 1, is_claimer)
    with pytest.raises(OSError):
        take(tmp_path / "place")
    assert is_free(tmp_path / "place")
