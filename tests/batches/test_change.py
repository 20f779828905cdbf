"""Batches in a jar: submitted all or nothing, changed by one at a time, aborted and restarted, and seen by the ledger."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobjar.batches import cancel, change as batch_change, edit, release, state as batch_state, waiting_jobs
from jobjar.batches.abort import AbortedBatch, abort_batch
from jobjar.batches.change import discard, new_change, read_change, settle, take_batch, take_name
from jobjar.batches.edit import edit_batch
from jobjar.batches.state import read_batch
from jobjar.batches.submit import read_submit_files, submit_batches
from jobjar.batches.submit_file import parse_submit_file
from jobjar.batches.unfinished import give_up
from jobjar.errors import (
    BadChange,
    BadSubmitFile,
    BatchBusy,
    BatchExists,
    BatchUnfinished,
    CannotUseJar,
    LedgerBusy,
    SubmitFailed,
    UnknownBatch,
)
from jobjar.jar import Jar
from jobjar.job_file.attributes import read_description
from jobjar.ledger.rebuild import fill_ledger
from jobjar.liveness import ProcessIdentity, this_process
from jobjar.recovery.recover import recover_node
from jobjar.reports.check import check_jar
from jobjar.shared_disk.placeholder import new_placeholder
from jobjar.stages import complete_without_run
from tests.rig import Rig, wait_until


@pytest.fixture
def jar(rig: Rig) -> Jar:
    return rig.open()


def submit(jar: Jar, text: str) -> list[tuple[str, int]]:
    return [tuple(commands) for commands in submit_batches(jar, parse_submit_file(text, "batch", {}))]  # type: ignore[misc]


def submit_seeds(jar: Jar, seeds: str, more: str = "") -> None:
    submit(jar, f'batch\nname = "wc"\nseeds = "{seeds}"\n{more}')


def seeds_in(rig: Rig, state: str) -> list[int | None]:
    found = []
    for path in sorted((rig.home / state).rglob("*")):
        if path.is_file():
            found.append(read_description(path.read_bytes(), path.name).seed)
    return sorted(found, key=lambda seed: seed or 0)


def assert_nothing_left(rig: Rig, jar: Jar) -> None:
    """No change is being made, nothing is half written, and the ledger agrees with the journals and the directories."""
    assert os.listdir(rig.home / "limbo") == []
    for path in (rig.home / "batches").iterdir():
        assert os.listdir(path) == ["batch.json"]
    fill_ledger(jar.ledger)
    assert check_jar(jar) == []


def query(jar: Jar, sql: str) -> list[tuple[Any, ...]]:
    fill_ledger(jar.ledger)
    return list(jar.ledger.connection.execute(sql))


def test_jobs_of_a_batch_are_described_jobs_with_batch_and_seed_in_the_ledger(rig: Rig, jar: Jar) -> None:
    text = 'batch\nname = "wc"\nnotes = "mine"\nretries = 2\n'
    text += 'job\nseeds = "4-5"\nexecution_class = "BIG"\npriority = 3\njob\nname = "x"'
    assert submit(jar, text) == [("wc", 3)]
    rows = query(jar, "SELECT batch, seed, kind, state, category, priority, retries FROM job ORDER BY submitted_at, id")
    assert rows == [
        ("wc", 4, "described", "unclaimed", "BIG", 3, 2),
        ("wc", 5, "described", "unclaimed", "BIG", 3, 2),
        ("wc", None, "described", "unclaimed", "", 0, 2),
    ]
    (row,) = query(jar, "SELECT name, jobs, notes, is_aborted, description FROM batch")
    assert row == ("wc", 3, "mine", 0, "name = wc\nnotes = mine\nretries = 2")
    assert all(os.access(path, os.X_OK) for path in (rig.home / "unclaimed/BIG").iterdir())
    assert_nothing_left(rig, jar)


def test_many_jobs_are_submitted_in_their_order(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, f"1-{2 * waiting_jobs.CHUNK + 5}")
    rows = query(jar, "SELECT seed FROM job ORDER BY priority DESC, submitted_at, id")
    assert [seed for (seed,) in rows] == list(range(1, 2 * waiting_jobs.CHUNK + 6))
    assert_nothing_left(rig, jar)


def test_a_name_is_given_once_and_what_comes_with_it_is_not_submitted(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-2")
    with pytest.raises(BatchExists, match="batch wc in the jar already"):
        submit(jar, 'batch\nname = "other"\nbatch\nname = "wc"')
    assert os.listdir(rig.home / "batches") == ["wc"]
    assert seeds_in(rig, "unclaimed") == [1, 2]
    (tmp := rig.home.parent / "f").write_text('batch\nname = "wc"\ncolour = "red"')
    with pytest.raises(BadSubmitFile) as caught:
        read_submit_files(jar, [str(tmp)], {})
    assert "there is a batch wc in the jar" in str(caught.value) and "no key colour" in str(caught.value)
    assert_nothing_left(rig, jar)


def test_of_many_that_submit_one_name_at_once_one_does(rig: Rig) -> None:
    jars = [rig.open() for _ in range(6)]
    barrier, won, lost = threading.Barrier(len(jars)), [], []

    def run(jar: Jar) -> None:
        barrier.wait()
        try:
            submit_seeds(jar, "1-20")
            won.append(jar)
        except BatchExists:
            lost.append(jar)

    threads = [threading.Thread(target=run, args=(jar,)) for jar in jars]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert seeds_in(rig, "unclaimed") == list(range(1, 21))
    assert_nothing_left(rig, jars[0])


def refuse(*words: object, **more: object) -> Any:
    raise OSError(28, "No space left on device", "/jar/file")


@pytest.mark.parametrize("step", ["change.stage_chunk", "submit.prepare", "submit.commit"])
def test_a_disk_that_refuses_before_the_commit_leaves_nothing(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"jobjar.batches.{step}", refuse)
        with pytest.raises(SubmitFailed, match=r"/jar/file: No space left.*nothing of it is in the jar"):
            submit(jar, 'batch\nname = "wc"\nseeds = 1-3\nbatch\nname = "b"')
    assert os.listdir(rig.home / "batches") == []
    assert_nothing_left(rig, jar)
    submit_seeds(jar, "1-3")
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]


def test_what_the_disk_refuses_after_the_commit_recovery_does(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(release, "move_under_own_name", refuse)
        with pytest.raises(BatchUnfinished, match=r"this is done for good .*No space left"):
            submit_seeds(jar, "1-3")
    assert seeds_in(rig, "unclaimed") == []
    assert recover_node(jar).lines[0].startswith("batch wc: went on with the change")
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]
    assert_nothing_left(rig, jar)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LedgerBusy(path="/x", waited_s=1)])
def test_who_is_interrupted_after_the_commit_is_told_that_the_batch_is_submitted(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupt(*words: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(batch_change, "release_staged", interrupt)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else BatchUnfinished) as caught:
            submit_seeds(jar, "1-3")
    told = "is decided; recover_jobs" if isinstance(error, KeyboardInterrupt) else "batch wc: this is done for good"
    assert told in str(caught.value)
    recover_node(jar)
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]
    assert_nothing_left(rig, jar)


def test_who_is_interrupted_before_the_commit_is_told_that_nothing_was_made(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobjar.batches.submit.commit", interrupt)
    with pytest.raises(KeyboardInterrupt, match="was not made, and left nothing behind"):
        submit_seeds(jar, "1-3")
    assert_nothing_left(rig, jar)


def test_seeds_are_widened_and_never_submitted_twice(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "3-5")
    assert edit_batch(jar, "wc", {"seeds": "1-6,9"}).jobs == 4
    assert edit_batch(jar, "wc", {"seeds": "1-6,9"}).jobs == 0
    assert seeds_in(rig, "unclaimed") == [1, 2, 3, 4, 5, 6, 9]
    with pytest.raises(BadChange, match="the seeds 9 are submitted already; seeds can only become more"):
        edit_batch(jar, "wc", {"seeds": "1-8"})
    assert query(jar, "SELECT jobs FROM batch") == [(7,)]
    assert_nothing_left(rig, jar)


def test_of_two_that_widen_at_once_no_seed_is_submitted_twice(rig: Rig) -> None:
    jars = [rig.open() for _ in range(4)]
    submit_seeds(jars[0], "1-2")
    barrier, done = threading.Barrier(len(jars)), []

    def run(jar: Jar, last: int) -> None:
        barrier.wait()
        try:
            done.append(edit_batch(jar, "wc", {"seeds": f"1-{last}"}).jobs)
        except (BatchBusy, BadChange):
            done.append(0)

    threads = [threading.Thread(target=run, args=(jar, 10 + number)) for number, jar in enumerate(jars)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = seeds_in(rig, "unclaimed")
    assert found == list(range(1, len(found) + 1)) and len(found) == 2 + sum(done) >= 10
    assert_nothing_left(rig, jars[0])


def test_new_seeds_have_the_batch_s_keys_and_its_new_priority(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-2", 'run_command = "go"\nexecution_class = "BIG"')
    edit_batch(jar, "wc", {"seeds": "1-3", "priority": "8", "notes": "faster"})
    assert query(jar, "SELECT seed, category, priority FROM job ORDER BY seed") == [(n, "BIG", 8) for n in (1, 2, 3)]
    assert query(jar, "SELECT notes FROM batch") == [("faster",)]
    assert {read_description(path.read_bytes(), "").run_command for path in (rig.home / "unclaimed/BIG").iterdir()} == {
        "go"
    }
    assert_nothing_left(rig, jar)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "say what is to change: seeds, priority, notes"),
        ({"run_command": "x"}, "run_command cannot be changed once it is submitted"),
        ({"seeds": "x"}, "seeds: 'x' is neither"),
        ({"priority": "x"}, "priority: priority 'x' is not an integer"),
    ],
)
def test_what_cannot_be_changed_is_refused(jar: Jar, changes: dict[str, str], told: str) -> None:
    submit_seeds(jar, "1")
    with pytest.raises(BadChange, match=told):
        edit_batch(jar, "wc", changes)


def test_a_batch_of_blocks_has_no_seeds_to_widen_and_an_unknown_one_is_told(jar: Jar) -> None:
    submit(jar, 'batch\nname = "b"\njob\njob\nbatch\nname = "one"')
    for name, told in (("b", "it has job blocks"), ("one", "it has one job")):
        with pytest.raises(BadChange, match=told):
            edit_batch(jar, name, {"seeds": "1-2"})
    for name in ("none", "../limbo", ".."):
        with pytest.raises(UnknownBatch):
            edit_batch(jar, name, {"notes": "x"})
        with pytest.raises(UnknownBatch):
            abort_batch(jar, name)


def test_an_aborted_batch_is_cancelled_and_a_restart_submits_what_did_not_succeed(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-3", 'execution_class = "BIG"')
    assert abort_batch(jar, "wc") == AbortedBatch("wc", 3, 0, [], 0)
    assert query(jar, "SELECT state, outcome, seed, category FROM job_report ORDER BY seed") == [
        ("completed", "cancelled", seed, "BIG") for seed in (1, 2, 3)
    ]
    assert query(jar, "SELECT is_aborted FROM batch") == [(1,)]
    with pytest.raises(BadChange, match="it is aborted"):
        edit_batch(jar, "wc", {"seeds": "1-9"})
    assert abort_batch(jar, "wc", restart=True).restarted == 3
    assert seeds_in(rig, "unclaimed/BIG") == [1, 2, 3]
    # Those that were cancelled before are not submitted a third time for what was submitted again since.
    assert abort_batch(jar, "wc", restart=True, kill=True) == AbortedBatch("wc", 3, 0, [], 3)
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]
    assert len(seeds_in(rig, "completed")) == 6
    assert query(jar, "SELECT is_aborted, jobs FROM batch") == [(0, 3)]
    assert_nothing_left(rig, jar)


class WholeSeconds:
    """The clock of a disk whose times are whole seconds, as MooseFS's. Each look at it takes a fifth of a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        monkeypatch.setattr("jobjar.jar.read_disk_clock", self.read)
        monkeypatch.setattr(complete_without_run, "moved_time", lambda path, otherwise: float(int(self.now)))

    def read(self, path: str) -> float:
        self.now += 0.2
        return float(int(self.now))


def test_of_changes_within_one_second_of_the_disk_s_clock_the_last_one_stands(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WholeSeconds(monkeypatch)
    submit_seeds(jar, "1-9")
    edit_batch(jar, "wc", {"notes": "b"})
    edit_batch(jar, "wc", {"seeds": "1-10", "notes": "a"})
    assert clock.now < 1_800_000_001.0
    [(jobs, notes, description)] = query(jar, "SELECT jobs, notes, description FROM batch")
    assert (jobs, notes, "seeds = 1-10" in description) == (10, "a", True)
    assert_nothing_left(rig, jar)


def test_what_ends_within_one_second_of_a_restart_is_restarted_by_the_next(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    WholeSeconds(monkeypatch)
    submit_seeds(jar, "1-3")
    for _ in range(3):
        assert abort_batch(jar, "wc", restart=True, kill=True) == AbortedBatch("wc", 3, 0, [], 3)
        assert query(jar, "SELECT is_aborted FROM batch") == [(0,)]
    assert_nothing_left(rig, jar)


def test_a_restart_leaves_out_what_succeeded_and_takes_what_a_hand_edited(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-3")
    for path in (rig.home / "unclaimed").iterdir():
        seed = read_description(path.read_bytes(), "").seed
        command = "#JJ retries = 0\n#JJ run_command = " + ("true" if seed == 2 else "exit 3")
        path.write_text(path.read_text().replace("#JJ seed", f"{command}\n#JJ seed"))
    rig.run_until_idle()
    restarted = abort_batch(jar, "wc", restart=True).restarted
    outcomes = dict(query(jar, "SELECT seed, outcome FROM job_report WHERE state = 'completed'"))
    assert restarted == sum(outcome != "succeeded" for outcome in outcomes.values()) == len(seeds_in(rig, "unclaimed"))
    assert all("exit 3" in path.read_text() for path in (rig.home / "unclaimed").iterdir())


def test_a_job_that_a_worker_claims_at_that_moment_is_killed_and_not_cancelled(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_seeds(jar, "1")
    path = next((rig.home / "unclaimed").iterdir())
    path.write_text("#!/bin/sh\n#JJ batch = wc\n#JJ seed = 1\n#JJ run_command = sleep 60\nexit 2\n")
    workers: list[Any] = []
    take: Callable[..., int] = vars(waiting_jobs)["take_waiting"]
    entry = batch_state.BatchState.entry
    # A worker that has not read of the abortion yet.
    monkeypatch.setattr(batch_state.BatchState, "entry", lambda state: {**entry(state), "is_aborted": bool(workers)})

    def claim_first(jar: Jar, jobs: Any, directory: str) -> int:
        if not workers:
            workers.append(rig.start_worker())
            wait_until(lambda: not path.exists())
        return take(jar, jobs, directory)

    monkeypatch.setattr(waiting_jobs, "take_waiting", claim_first)
    done = abort_batch(jar, "wc")
    assert (done.cancelled, done.killed, done.running) == (0, 1, [])
    rig.stop_worker(workers[0])
    assert query(jar, "SELECT outcome FROM job_report") == [("killed",)]
    assert_nothing_left(rig, jar)


def test_jobs_that_wait_to_be_stored_are_left_alone(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-2", 'execution_class = "STORAGE-tape"')
    edit_batch(jar, "wc", {"priority": "3"})
    assert abort_batch(jar, "wc").cancelled == 0
    assert seeds_in(rig, "unclaimed/STORAGE-tape") == [1, 2]


def test_what_comes_back_of_an_aborted_batch_recovery_cancels(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1-2")
    path = next((rig.home / "unclaimed").iterdir())
    path = path.rename(rig.home / "limbo" / path.name)
    assert abort_batch(jar, "wc").cancelled == 1
    path.rename(rig.home / "unclaimed" / path.name)
    assert "batch wc: it is aborted; cancelled 1 jobs that had come back" in recover_node(jar).lines
    assert seeds_in(rig, "completed") == [1, 2]
    assert_nothing_left(rig, jar)


def test_a_batch_that_a_living_process_changes_is_busy_and_one_of_a_dead_process_is_not(rig: Rig, jar: Jar) -> None:
    submit_seeds(jar, "1")
    change = take_batch(jar, "wc")
    with pytest.raises(BatchBusy, match=f"process {os.getpid()} of node"):
        edit_batch(jar, "wc", {"notes": "x"})
    assert recover_node(jar).lines == []
    batch_change._underway.discard(change.id)
    assert edit_batch(jar, "wc", {"notes": "x"}).jobs == 0
    assert read_change(jar, "wc") is None


def test_a_change_of_another_node_is_finished_where_it_was_committed_and_else_left_alone(rig: Rig, jar: Jar) -> None:
    elsewhere = new_change(["far"])._replace(process=ProcessIdentity("elsewhere", 7, 1.0, "boot"))
    assert take_name(jar, "far", elsewhere)
    assert not settle(jar, "far")
    with pytest.raises(BatchBusy, match="process 7 of node elsewhere"):
        submit(jar, 'batch\nname = "far"')
    assert recover_node(jar).lines == []
    discard(jar, elsewhere)
    submit_seeds(jar, "1-2")
    committed = batch_state.read_batch(jar, "wc").data
    elsewhere = elsewhere._replace(batches=("wc",))
    assert batch_change._rename_prepared(jar, elsewhere, "", jar.layout.batch("wc").change)
    batch_change.commit(jar, elsewhere, {**committed, "is_aborted": True})
    assert settle(jar, "wc")
    assert seeds_in(rig, "completed") == [1, 2]
    assert_nothing_left(rig, jar)


def test_a_change_of_a_node_that_is_gone_for_good_is_taken_back_when_somebody_says_so(rig: Rig, jar: Jar) -> None:
    elsewhere = new_change(["far", "other"])._replace(process=ProcessIdentity("elsewhere", 7, 1.0, "boot"))
    assert take_name(jar, "far", elsewhere) and take_name(jar, "other", elsewhere)
    batch_change.prepare(jar, "other", {"batch": "other", "change": elsewhere.id})
    told = rig.run("recover_jobs", "--batch", "other").stdout
    assert f"discarded the change {elsewhere.id}" in told
    assert [name for name, _ in submit(jar, 'batch\nname = "far"\nbatch\nname = "other"')] == ["far", "other"]
    change = take_batch(jar, "far")
    result = rig.run("recover_jobs", "--batch", "far", check=False)
    assert result.returncode == 1 and f"process {os.getpid()} of node" in result.stderr
    discard(jar, change)
    batch_change._underway.discard(change.id)
    again = rig.run("recover_jobs", "--batch", "far", "--batch", "none")
    assert "discarded" not in again.stdout
    nothing = "recover_jobs: no change of a batch {} is under way, so there is nothing of it to take back"
    assert again.stderr.splitlines() == [nothing.format("far"), nothing.format("none")]
    assert_nothing_left(rig, jar)


@pytest.fixture
def patching() -> Iterator[pytest.MonkeyPatch]:
    """Undone by the test, at the latest when it is over."""
    patches = pytest.MonkeyPatch()
    yield patches
    patches.undo()


@pytest.mark.parametrize("when", ["before", "between the look and the commit", "beside another", "after"])
def test_a_process_that_was_given_up_and_lives_changes_nothing_any_more(
    rig: Rig, jar: Jar, patching: pytest.MonkeyPatch, when: str
) -> None:
    submit_seeds(jar, "1-2")
    commit, rename = vars(batch_change)["commit"], os.rename
    elsewhere = this_process()._replace(node="elsewhere", boot_id="another")
    other = rig.open()

    def be_given_up() -> None:
        patching.undo()
        assert settle(other, "wc") is (when == "after")
        give_up(other, "wc")
        assert settle(other, "wc")
        if when == "beside another":
            take_batch(other, "wc")

    def commit_late(*words: Any) -> None:
        if when == "after":
            commit(*words)
        be_given_up()
        if when != "after":
            commit(*words)

    def rename_late(source: str, target: str, **directories: int) -> None:
        if target == "batch.json":
            be_given_up()
        rename(source, target, **directories)

    patching.setattr(batch_change, "this_process", lambda: elsewhere)
    if when.startswith("between"):
        patching.setattr(os, "rename", rename_late)
    else:
        patching.setattr(edit, "commit", commit_late)
    if when == "after":
        assert edit_batch(jar, "wc", {"seeds": "1-3"}).jobs == 1
    else:
        with pytest.raises(SubmitFailed):
            edit_batch(jar, "wc", {"seeds": "1-3"})
        assert seeds_in(rig, "unclaimed") == [1, 2]
    if when == "beside another":
        held = read_change(jar, "wc")
        assert held is not None and os.listdir(jar.layout.batch("wc").change) == [f"{held.id}.json"]
        discard(jar, held)
    assert edit_batch(jar, "wc", {"seeds": "1-3"}).jobs == (0 if when == "after" else 1)
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]
    assert_nothing_left(rig, jar)


def test_two_that_finish_one_change_do_it_once(rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    move: Callable[..., None] = vars(release)["move_under_own_name"]
    other = rig.open()
    nested: list[int] = []

    def let_another_do_it(source: str, destination: str, **options: Any) -> None:
        if not nested:
            nested.append(1)
            (staged,) = (rig.home / "limbo").iterdir()
            release.release_staged(other, str(staged), "root")
        move(source, destination, **options)

    monkeypatch.setattr(release, "move_under_own_name", let_another_do_it)
    submit_seeds(jar, "1-5")
    assert seeds_in(rig, "unclaimed") == [1, 2, 3, 4, 5]
    assert_nothing_left(rig, jar)


@pytest.mark.parametrize("before", ["reconcile_in_pieces", "remove_taken"])
def test_who_is_slow_to_finish_an_abortion_leaves_alone_what_was_restarted_meanwhile(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Of a committed change of another node anybody finishes the rest; meanwhile that node does, and restarts the batch."""
    submit_seeds(jar, "1-3", 'run_command = "sleep 1000"')
    elsewhere = new_change(["wc"])._replace(process=ProcessIdentity("elsewhere", 7, 1.0, "boot"))
    assert batch_change._rename_prepared(jar, elsewhere, "", jar.layout.batch("wc").change)
    batch_change.commit(jar, elsewhere, {**read_batch(jar, "wc").data, "is_aborted": True})
    step = getattr(waiting_jobs, before)
    other = rig.open()
    done: list[None] = []
    workers: list[Any] = []

    def let_another_be_quicker(*words: Any, **options: Any) -> Any:
        result = step(*words, **options)
        if not done:
            done.append(None)
            batch_change.finish(other, elsewhere)
            assert abort_batch(other, "wc", restart=True).restarted == 3
            if before == "remove_taken":
                workers.append(rig.start_worker())
                wait_until(lambda: len(list(rig.home.glob("workers/*/jobs/*"))) == 1)
        return result

    monkeypatch.setattr(waiting_jobs, before, let_another_be_quicker)
    batch_change.finish(jar, elsewhere)
    held = len(list(rig.home.glob("workers/*/jobs/*")))
    assert len(seeds_in(rig, "unclaimed")) + held == 3
    assert list(rig.home.glob("workers/*/KILL.*")) == []
    assert len(seeds_in(rig, "completed")) == 3
    for worker in workers:  # told to end, it ends its jobs; killed while it starts one, it would leave that behind
        worker.terminate()
        worker.communicate(timeout=60)


def test_a_name_held_by_a_move_that_was_killed_does_not_keep_a_job_from_being_submitted(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    move: Callable[..., None] = vars(release)["move_under_own_name"]

    def find_a_placeholder(source: str, destination: str, **options: Any) -> None:
        os.symlink(new_placeholder(), destination)
        move(source, destination, **options)

    monkeypatch.setattr(release, "move_under_own_name", find_a_placeholder)
    submit_seeds(jar, "1-3")
    assert seeds_in(rig, "unclaimed") == [1, 2, 3]


def test_a_cancelled_job_that_the_ledger_forgot_is_completed_all_the_same(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_seeds(jar, "1")
    with monkeypatch.context() as patch:
        patch.setattr(cancel, "rename", refuse)
        with pytest.raises(BatchUnfinished):
            abort_batch(jar, "wc")
    with monkeypatch.context() as patch:
        patch.setattr(waiting_jobs, "job_that_was_at", lambda connection, place: None)
        recover_node(jar)
    assert query(jar, "SELECT seed, outcome FROM job_report") == [(1, "cancelled")]


def test_a_batch_whose_file_was_damaged_is_named_and_the_others_go_on(rig: Rig, jar: Jar) -> None:
    submit(jar, 'batch\nname = "a"\nbatch\nname = "b"')
    change = take_batch(jar, "a")
    batch_change._underway.discard(change.id)
    (rig.home / "batches/a/batch.json").write_text("{")
    with pytest.raises(CannotUseJar, match=r"batches/a/batch\.json: it is not what was written there"):
        edit_batch(jar, "a", {"notes": "x"})
    assert any("batches/a/batch.json" in line for line in recover_node(jar).lines)
    assert edit_batch(jar, "b", {"notes": "x"}).jobs == 0


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error", "/x"), LedgerBusy(path="/x", waited_s=1)])
def test_a_batch_that_cannot_be_settled_is_said_and_recovery_goes_on_with_the_next(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(release, "move_under_own_name", refuse)
        for name in ("a", "b"):
            with pytest.raises(BatchUnfinished):
                submit(jar, f'batch\nname = "{name}"\nseeds = "1-2"')

    def refuse_one(jar: Jar, change: Any) -> None:
        if change.batches[0] == "a":
            raise error
        finish(jar, change)

    finish = batch_change.finish
    monkeypatch.setattr(batch_change, "finish", refuse_one)
    said = "\n".join(recover_node(jar).lines)
    assert "batch a: it could not be settled: /x" in said and "batch b: went on with" in said
    monkeypatch.setattr(batch_change, "finish", finish)
    assert seeds_in(rig, "unclaimed") == [1, 2]
    recover_node(jar)
    assert_nothing_left(rig, jar)


def test_of_two_that_discard_a_change_the_one_that_is_killed_leaves_the_rest_to_the_other(
    rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when it has removed one file, just before the other would."""
    staged = rig.home / "limbo/.batch-x"
    (staged / "00000000/BIG").mkdir(parents=True)
    for number in range(4):
        (staged / f"00000000/BIG/{number}").touch()
    unlink = os.unlink
    removed: list[object] = []

    def come_second(path: Any, **options: Any) -> None:
        if not removed:
            removed.append(path)
            unlink(path, **options)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", come_second)
    release.discard_staged(str(staged))
    assert removed and os.listdir(rig.home / "limbo") == []


def test_what_of_a_change_cannot_be_removed_is_an_error(rig: Rig, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = rig.home / "limbo/.batch-x"
    (staged / "00000000").mkdir(parents=True)
    (staged / "00000000/job").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(OSError, match="batch-x"):
            release.discard_staged(str(staged))
    release.discard_staged(str(staged))
    assert os.listdir(rig.home / "limbo") == []


def test_a_million_seeds_cost_no_memory_for_their_names() -> None:
    (text,) = parse_submit_file('batch\nname = "wc"\nseeds = "1-1000000"', "batch", {})
    import tracemalloc

    from jobjar.batches.plan import count_jobs, plan_jobs

    tracemalloc.start()
    assert count_jobs(text) == 1_000_000
    jobs = plan_jobs(text)
    assert [next(jobs).identifier for _ in range(3)] == ["wc-1", "wc-2", "wc-3"]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
