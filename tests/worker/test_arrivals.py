"""What workers of a node tell each other of the directories on a network disk, and how rarely they look."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobjar.shared_disk.change_times import Looks
from jobjar.worker.arrivals import Backoff

OLD_S = 1000.0


@pytest.fixture
def unclaimed(tmp_path: Path) -> Path:
    """A directory that nothing came into for long."""
    made = tmp_path / "unclaimed"
    made.mkdir()
    settle(made, OLD_S)
    return made


def settle(path: Path, age_s: float) -> int:
    changed_ns = time.time_ns() - int(age_s * 1e9)
    os.utime(path, ns=(changed_ns, changed_ns))
    return changed_ns


def worker(unclaimed: Path) -> Looks:
    return Looks(f"{unclaimed.parent}/looks", time.time)


def look(looks: Looks, path: Path, *more: Path, max_age_s: float = 60.0) -> int:
    return looks.changed_ns([str(path), *map(str, more)], max_age_s)[str(path)]


def test_a_look_serves_the_other_workers_of_the_node_for_as_long_as_each_wants(unclaimed: Path) -> None:
    first, second = worker(unclaimed), worker(unclaimed)
    before = look(first, unclaimed)
    after = settle(unclaimed, OLD_S / 2)
    assert look(second, unclaimed) == before
    assert look(second, unclaimed, max_age_s=0) == after
    assert look(first, unclaimed) == after, "the newer look serves the first one too"


def test_what_changed_just_now_is_looked_at_by_everybody(unclaimed: Path) -> None:
    first, second = worker(unclaimed), worker(unclaimed)
    look(first, unclaimed)
    just_now = settle(unclaimed, 0)
    assert look(first, unclaimed, max_age_s=0) == just_now
    again = settle(unclaimed, 0)
    assert look(second, unclaimed) == again
    assert not first.is_settled([again]) and first.is_settled([again - 10_000_000_000])


def test_a_missing_category_is_looked_for_only_where_the_directory_above_it_changed(unclaimed: Path) -> None:
    looks, category = worker(unclaimed), unclaimed / "LINUX"
    assert look(looks, category, unclaimed, max_age_s=0) == 0
    above_ns = unclaimed.stat().st_mtime_ns
    category.mkdir()
    made_ns = settle(category, OLD_S)
    os.utime(unclaimed, ns=(above_ns, above_ns))
    assert look(looks, category, unclaimed, max_age_s=0) == 0, "nobody looked: what is above it tells"
    settle(unclaimed, OLD_S / 2)
    look(worker(unclaimed), unclaimed, max_age_s=0)  # one that does not ask that category sees it first
    assert look(looks, category, unclaimed, max_age_s=0) == made_ns


def test_where_looks_cannot_be_shared_each_worker_looks_for_itself(unclaimed: Path) -> None:
    file = unclaimed.parent / "looks"
    for text in ("", "[]", '{"x": 1}', '{"x": [1]}', '{"x": ["a", "b", "c"]}', "\udcff"):
        file.write_text(text, errors="surrogateescape")
        assert look(worker(unclaimed), unclaimed) == unclaimed.stat().st_mtime_ns
    file.unlink()
    file.mkdir()
    assert look(worker(unclaimed), unclaimed) == unclaimed.stat().st_mtime_ns
    assert sorted(path.name for path in unclaimed.parent.iterdir()) == ["looks", "unclaimed"]


def test_looks_are_a_tenth_of_the_quiet_time_apart_and_at_most_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    backoff = Backoff(1, 60)
    intervals = []
    for clock[0] in (0.0, 5.0, 20.0, 300.0, 600.0, 1e6):
        intervals.append(backoff.interval_s())
    assert intervals == [1, 1, 2, 30, 60, 60]
    backoff.reset()
    assert backoff.interval_s() == 1
    assert Backoff(5, 2).interval_s() == 5
