"""Chunks that hands copied, moved and damaged: what cannot run is held with the reason, and nothing else stops for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.arrays.test_run_chunk import counts, submit
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.timeout(120)


def held_reason(rig: Rig, name: str) -> str:
    wait_until(lambda: name in rig.names("limbo"), f"{name} to be held")
    [one] = rig.explain(f"limbo/{name}")
    [cause] = one["causes"]
    assert cause["cause"] == "faulty", one
    return str(cause["why"])


def test_chunks_of_an_array_that_is_gone_or_damaged_are_held_and_go_on_when_it_is_mended(
    rig: Rig, tmp_path: Path
) -> None:
    arrays = [submit(rig, "--array", "1-2", "--chunk", "2", f"echo $1 >> {tmp_path}/ran") for _ in range(4)]
    lines = tmp_path / "lines"
    lines.write_text("a\nb\n")
    arrays.append(submit(rig, "--each-line", str(lines), "--chunk", "2", f"echo $1 >> {tmp_path}/ran"))
    batches = rig.home / "batches"
    chunks = {
        uid: name
        for name in rig.names("unclaimed")
        for uid in arrays
        if uid in (rig.home / "unclaimed" / name).read_text()
    }
    saved = tmp_path / "saved"
    shutil.copytree(batches, saved)
    shutil.rmtree(batches / arrays[0])
    (batches / arrays[1] / "batch.json").write_text('{"batch": ')
    shutil.rmtree(batches / arrays[2] / "array")
    (batches / arrays[3] / "batch.json").write_text(
        (batches / arrays[3] / "batch.json").read_text().replace('"last": 2', '"last": 0')
    )
    os.truncate(batches / arrays[4] / "array" / "entries.at", 8)
    after = rig.submit(f"echo after >> {tmp_path}/ran")
    worker = rig.start_worker()
    for uid, part in zip(
        arrays,
        ("is gone", "batch.json", "array/script is missing", "does not say what an array is", "cut short"),
        strict=True,
    ):
        reason = held_reason(rig, chunks[uid])
        assert part in reason and uid in reason, reason
    wait_until(lambda: after in rig.names("completed"), "the job after them")
    assert (tmp_path / "ran").read_text() == "after\n"
    for uid in arrays:
        rig.run_forked("jobjar", "show", uid)
    rig.run_forked("jobjar", "list")
    rig.run("recover_jobs")
    rig.stop_worker(worker)
    rig.assert_clean()
    for uid in arrays:
        shutil.rmtree(batches / uid, ignore_errors=True)
        shutil.copytree(saved / uid, batches / uid)
    rig.run("jobjar", "release", *chunks.values())
    rig.run_until_idle()
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(["after", *"12" * 4, "a", "b"])
    assert [counts(rig, uid) for uid in arrays] == [(2, 0, 0)] * 5
    rig.assert_clean()


def test_chunks_that_a_hand_copies_renames_or_moves_run_each_task_once(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-12", "--chunk", "2", f"echo $1 >> {tmp_path}/ran")
    unclaimed, limbo = rig.home / "unclaimed", rig.home / "limbo"
    copied, other, renamed, moved, away, short = (unclaimed / name for name in rig.names("unclaimed"))
    # A copy in another category, one of another range, another priority, another category, to limbo and back.
    (unclaimed / "OTHER").mkdir()
    shutil.copy2(copied, limbo / "copy")
    (limbo / "copy").rename(unclaimed / "OTHER" / copied.name)
    shutil.copy2(other, limbo / "copy")
    (limbo / "copy").rename(unclaimed / other.name.replace("+3-4", "+1-12"))
    renamed.rename(unclaimed / f"{renamed.name.rpartition('.')[0]}.77")
    moved.rename(unclaimed / "OTHER" / moved.name)
    away.rename(limbo / away.name)
    rig.run("recover_jobs")
    (limbo / away.name).rename(away)
    short.rename(unclaimed / short.name.replace("+11-12", "+11-11"))
    rig.run_until_idle("OTHER")
    ran = sorted(map(int, (tmp_path / "ran").read_text().split()))
    assert {*ran} == set(range(1, 12)) and len(ran) == 11, ran
    for name in rig.names("limbo"):
        assert "run twice" in held_reason(rig, name)
    assert len(rig.names("limbo")) == 2
    assert counts(rig, array)[:2] == (11, 0)
    rig.assert_clean()
    # What nobody ran because a hand had cut it off can be run all the same.
    rig.run("jobjar", "retry", array)
    rig.run_until_idle()
    assert counts(rig, array) == (12, 0, 0)
